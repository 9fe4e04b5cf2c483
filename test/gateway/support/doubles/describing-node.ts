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

/** A word that was described. */
interface Word {
  isKnown: boolean
  vector: readonly number[]
}

const described = new Map<string, Word>()

/** Returns the vector of a word, which is random; words of a kind have one direction beside their own. */
function wordOf(word: string): Word {
  const known = described.get(word)
  if (known) return known
  const kind = KINDS.findIndex((name) => WORDS[name].split(' ').includes(word))
  const random = createRandom(
    new TextEncoder().encode(word).reduce((hash, byte) => (31 * hash + byte) % 2 ** 31, 7),
  )
  const ofKind = createRandom(kind)
  const vector = Array.from({ length: SIZE }, () => random() - 0.5 + 2 * (ofKind() - 0.5))
  const found = { isKnown: kind >= 0, vector }
  described.set(word, found)
  return found
}

/** Returns the mean of the words' vectors, and a high loss for text without known words. */
function describe(text: string): TextDescription {
  const words = text.split(' ').map(wordOf)
  const embedding = Array.from({ length: SIZE }, (_, d) =>
    words.reduce((sum, { vector }) => sum + (vector[d] ?? 0) / words.length, 0),
  )
  return { tokens: 2 * words.length, embedding, nllMean: words.some(({ isKnown }) => isKnown) ? 2 : 12 }
}
