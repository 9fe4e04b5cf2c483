/** Random load on a small vocabulary, where many drafts are right: outputs are those of an engine that drafts nothing. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { TokenConstraint } from '../../../../gpu-node/src/serving/contract/token-constraint.ts'
import type {
  Generation,
  GenerationOutcome,
} from '../../../../gpu-node/src/serving/engine/generation-request.ts'
import {
  CONFIG,
  request,
  startArithmeticEngine,
  untilTrue,
} from '../../../support/doubles/arithmetic-engine.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { maskOf } from '../../../support/engine/token-masks.ts'
import { createRandom } from '../../../support/harness/random.ts'

const VOCABULARY = 3
/** Ends outputs where a constraint allows it, and not too soon. */
const END = 2
const VERSIONS = [1, 2]
const REQUESTS = 60

interface Output {
  text: string
  outcome: GenerationOutcome
}

/** Allows two tokens at each place or more, and answers about drafts at random where it may. */
function constraint(random: () => number, salt: number): TokenConstraint {
  const isAllowed = (token: number, length: number) => token !== END || length > 20 + (salt % 30)
  const allowedAt = (length: number) => [0, 1, END].filter((token) => isAllowed(token, length))
  return {
    async allowedAfter(generated, drafts = []) {
      if (random() < 0.3) await nextTurn()
      const right = drafts.findIndex((draft, at) => !allowedAt(generated.length + at).includes(draft))
      const most = right < 0 ? drafts.length : right
      const count = random() < 0.2 ? Math.floor(random() * (most + 1)) : most
      return Array.from({ length: 1 + count }, (_, at) =>
        maskOf(VOCABULARY, allowedAt(generated.length + at)),
      )
    },
    async forcedAfter() {
      if (random() < 0.3) await nextTurn()
      if (random() < 0.1) return null
      return Array.from({ length: Math.floor(random() * 6) }, () => Math.floor(random() * VOCABULARY))
    },
    release: () => undefined,
  }
}

async function read({ events, outcome }: Generation): Promise<Output> {
  let text = ''
  try {
    for await (const event of events) {
      if (event.type === 'pinned') text = ''
      else if (event.type === 'text') text += event.text
    }
  } catch {
    // The outcome says why it ended.
  }
  return { text, outcome: await outcome }
}

function randomSpec(random: () => number, mayEnd: boolean) {
  const pick = (below: number) => Math.floor(random() * below)
  const prompt = Array.from({ length: 1 + pick(60) }, () => pick(3))
  const maxTokens = [1, 2, 1 + pick(80), null][pick(4)] as number | null
  const isConstrained = mayEnd || random() < 0.3
  const salt = pick(100)
  return () => ({
    ...request(prompt, {
      maxTokens,
      seed: salt,
      stops: salt % 3 === 0 ? ['abca', 'cccb'] : [],
      restartable: salt % 2 === 0,
      partition: salt % 5 === 0 ? undefined : 'ours',
      prediction: salt % 4 === 0 ? Array.from({ length: 50 }, (_, at) => (at * salt) % 3) : undefined,
    }),
    constraint: isConstrained ? constraint(random, salt) : undefined,
  })
}

/** Returns what a receipt is made from, but for times and shared pages. */
function countsOf({ finishReason, completionTokens, promptTokens, text }: GenerationOutcome) {
  return { finishReason, completionTokens, promptTokens, tokens: text.tokens }
}

/** Returns what an output should have of the whole one. What came before a restart is void. */
function asFarAs({ text, outcome }: Output, whole: Output) {
  const { finishReason, weights } = outcome
  if (finishReason === 'stop' || finishReason === 'length')
    return { text: whole.text, ...countsOf(whole.outcome) }
  return {
    text: weights ? whole.text.slice(0, text.length) : text,
    ...countsOf(outcome),
    tokens: whole.outcome.text.tokens.slice(0, outcome.text.tokens.length),
  }
}

/** Returns what each request gets alone and without drafts, by version. */
async function alone(specs: readonly ReturnType<typeof randomSpec>[], config: typeof CONFIG) {
  return Promise.all(
    VERSIONS.map(async (version) => {
      const { backend, engine } = startArithmeticEngine({
        config,
        vocabSize: VOCABULARY,
        policy: { draftTokens: 0 },
      })
      engine.setActive(backend.weights(version))
      const results = []
      for (const spec of specs) results.push(await read(engine.generate(spec())))
      return results
    }),
  )
}

/** Runs random load, checks each output, and returns what happened how often. */
async function runLoad(seed: number) {
  const random = createRandom(seed)
  const pick = (below: number) => Math.floor(random() * below)
  const mayEnd = seed % 2 === 0
  const config = { ...CONFIG, vocabSize: VOCABULARY, eosTokenIds: mayEnd ? [END] : [] }
  const specs = Array.from({ length: REQUESTS }, () => randomSpec(random, mayEnd))
  const expected = await alone(specs, config)
  const seen = {
    accepted: 0,
    preempted: 0,
    stop: 0,
    length: 0,
    cancelled: 0,
    refused: 0,
    error: 0,
    scored: 0,
  }
  let nowMs = 0
  const { backend, engine } = startArithmeticEngine({
    config,
    seed,
    vocabSize: VOCABULARY,
    // All steps take the same time, so a further token costs nothing.
    nowMs: () => (nowMs += 1),
    policy: { kvTokens: 192, prefillChunk: 16, maxRunning: 4, maxWaiting: 100, draftTokens: 8 },
    observer: { step: ({ acceptedDrafts }) => void (seen.accepted += acceptedDrafts) },
    inspect(state, policy) {
      checkInvariants(state, policy)
      seen.preempted += state.requests.filter(({ status }) => status.kind === 'waiting' && status.pin).length
    },
    async onStep() {
      if (random() < 0.02) throw new Error('the step failed')
    },
  })
  let active = backend.weights(VERSIONS[0]!)
  engine.setActive(active)
  const running = specs.map(async (spec, index) => {
    for (let turns = pick(800); turns > 0; turns--) await nextTurn()
    const abort = new AbortController()
    const reading = read(engine.generate({ ...spec(), signal: abort.signal }))
    if (index % 5 === 0) {
      for (let turns = pick(60); turns > 0; turns--) await nextTurn()
      abort.abort()
    }
    return reading
  })
  let isOver = false
  const swaps = (async () => {
    for (let version = 1; !isOver; version = 3 - version) {
      for (let turns = 20 + pick(40); turns > 0; turns--) await nextTurn()
      const tokens = Array.from({ length: 2 + pick(60) }, () => pick(3))
      const scored = engine.score({ weights: active, tokens, lane: 'drift' })
      scored.then(
        () => (seen.scored += 1),
        () => undefined,
      )
      active = backend.weights(3 - version)
      engine.setActive(active)
      await engine.drain(version, pick(10))
    }
  })()
  const results = await Promise.all(running)
  isOver = true
  await swaps
  for (const [index, { text, outcome }] of results.entries()) {
    seen[outcome.finishReason] += 1
    const whole = expected[VERSIONS.indexOf(outcome.weights?.version ?? 1)]![index]!
    expect({ text, ...countsOf(outcome) }).toEqual(asFarAs({ text, outcome }, whole))
  }
  await untilTrue(() => backend.kvTokens === 0)
  return seen
}

test('preempted, restarted, cancelled and failed outputs are what they are alone', async () => {
  const all: Awaited<ReturnType<typeof runLoad>>[] = []
  for (let seed = 1; seed <= 4; seed++) all.push(await runLoad(seed))
  const total = (of: keyof (typeof all)[number]) => all.reduce((sum, seen) => sum + seen[of], 0)
  expect(total('accepted')).toBeGreaterThan(100)
  const happened = ['preempted', 'stop', 'length', 'cancelled', 'error', 'scored'] as const
  expect(happened.filter((of) => total(of) === 0)).toEqual([])
})
