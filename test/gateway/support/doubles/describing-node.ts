import { errorBody } from '@copal/shared/errors.ts'
import type { DescribeCall, TextDescription } from '@copal/shared/wire/node-calls.ts'
import { replayedError, SIGNATURE_HEADER } from '@copal/shared/wire/signature.ts'
import type { Deps } from '../../../../gateway/src/contracts/bindings.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { sendHeartbeat } from '../requests/gateway-requests.ts'

/** Words of each kind of text. */
const WORDS = {
  law: 'court plaintiff contract statute appeal judge tribunal defendant clause verdict',
  code: 'function return const array promise index await buffer import interface',
  recipe: 'butter flour oven simmer garlic whisk tablespoon pepper dough roast',
  sport: 'goal striker match referee league penalty coach stadium keeper season',
} as const
/** A kind of text that a describing node tells apart. */
export type Kind = keyof typeof WORDS
const KINDS = Object.keys(WORDS) as Kind[]

/** Returns a text of a kind, of about 40 words; equal seeds give equal texts. */
export function textOfKind(kind: Kind, seed: number): string {
  const random = createRandom(1_000 * KINDS.indexOf(kind) + seed)
  const words = WORDS[kind].split(' ')
  const drawn = Array.from({ length: 40 }, () => words[Math.floor(random() * words.length)] ?? '')
  return `${drawn.join(' ')} number ${seed}`
}

/** A node that describes texts by their words. */
export interface DescribingNode {
  /** Replaces {@link Deps.nodeFetch}. */
  nodeFetch: Deps['nodeFetch']
  /** Texts of each call. */
  calls: string[][]
  /** Tells the gateway that it is alive, for some seconds. */
  heartbeat(): Promise<void>
  /** While it is set, calls fail as those of a node that is gone. */
  isAway: boolean
}

/** Registers a node of a model with the gateway, whose calls stay in the test. */
export async function startDescribingNode(
  model: string,
  baseSha256 = 'a'.repeat(64),
): Promise<DescribingNode> {
  const signatures = new Set<string>()
  const registered = { id: model, baseSha256, contextLength: 2048, parameters: 1000 }
  const node: DescribingNode = {
    async heartbeat() {
      await sendHeartbeat({ id: 'node-1', url: 'http://127.0.0.1:1' }, model, { model: registered })
    },
    calls: [],
    isAway: false,
    async nodeFetch(url, init) {
      if (node.isAway) throw new TypeError('connection refused')
      if (url.pathname !== '/rpc/describe') throw new Error(`no ${url.pathname} here`)
      const signature = new Headers(init.headers).get(SIGNATURE_HEADER)
      if (signature === null || signatures.has(signature))
        return Response.json(errorBody(replayedError()), { status: 401 })
      signatures.add(signature)
      const { texts } = JSON.parse(new TextDecoder().decode(init.body as Uint8Array)) as DescribeCall
      node.calls.push(texts)
      return Response.json({ texts: texts.map(describe) })
    },
  }
  await node.heartbeat()
  return node
}

/** Dimensions of the embeddings. */
const SIZE = 24

/** Returns a high loss for text without known words, and the mean of the words' vectors, which are random; a kind has one direction beside those of its words. */
function describe(text: string): TextDescription {
  const words = text.split(' ')
  const embedding = Array.from({ length: SIZE }, () => 0)
  for (const word of words) {
    const kind = KINDS.findIndex((name) => WORDS[name].split(' ').includes(word))
    const random = createRandom(
      new TextEncoder().encode(word).reduce((hash, byte) => (31 * hash + byte) % 2 ** 31, 7),
    )
    const ofKind = createRandom(kind)
    for (let d = 0; d < SIZE; d++)
      embedding[d] = (embedding[d] ?? 0) + (random() - 0.5 + 2 * (ofKind() - 0.5)) / words.length
  }
  const isKnown = words.some((word) => KINDS.some((name) => WORDS[name].split(' ').includes(word)))
  return { tokens: 2 * words.length, embedding, nllMean: isKnown ? 2 : 12 }
}
