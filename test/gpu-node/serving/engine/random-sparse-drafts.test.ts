/** Random load on the sparse engine: each output is what it is alone and without drafts, to the bit. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { Addon } from '../../../../gpu-node/native/addon.d.ts'
import type { DenseModel } from '../../../../gpu-node/src/model/master/dense-model.ts'
import { createSparseBackend } from '../../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import type { TokenConstraint } from '../../../../gpu-node/src/serving/contract/token-constraint.ts'
import { createEngine } from '../../../../gpu-node/src/serving/engine/engine.ts'
import type { EnginePolicy } from '../../../../gpu-node/src/serving/engine/engine-policy.ts'
import type {
  GenerateRequest,
  Generation,
} from '../../../../gpu-node/src/serving/engine/generation-request.ts'
import { createGrammarCompiler } from '../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { request } from '../../../support/doubles/arithmetic-engine.ts'
import { addon } from '../../../support/engine/backends.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { openTinyModel } from '../../../support/models/tiny-model.ts'
import { DOCUMENT_SCHEMA } from '../../../support/text/document-schema.ts'
import { jsonOf } from '../../../support/text/json-grammar-source.ts'

const REQUESTS = 40
const CONTEXT = 256
/** Token ids of prompts are below it. */
const VOCABULARY = 300
/** Seeded choices. */
interface Choices {
  pick: (below: number) => number
  oneOf: <T>(values: readonly T[]) => T
  happens: (chance: number) => boolean
  tokens: (count: number) => number[]
}

function choicesOf(seed: number): Choices {
  const random = createRandom(seed)
  const pick = (below: number) => Math.floor(random() * below)
  return {
    pick,
    oneOf: (values) => values[pick(values.length)] as never,
    happens: (chance) => random() < chance,
    tokens: (count) => Array.from({ length: count }, () => pick(VOCABULARY)),
  }
}

type Spec = () => GenerateRequest

/** A request whose prompt may repeat itself, or begin as others do. */
function randomSpec(
  { pick, oneOf, happens, tokens }: Choices,
  passages: readonly (readonly number[])[],
  constrain: () => TokenConstraint,
): Spec {
  const passage = oneOf(passages)
  const prompt = [
    ...passage.slice(0, 1 + pick(passage.length)),
    ...tokens(pick(5)),
    ...passage.slice(0, pick(20)),
  ]
  const isEchoed = happens(0.1)
  const isConstrained = !isEchoed && happens(0.25)
  const fields = {
    maxTokens: oneOf([1, 2, 1 + pick(30), 40 + pick(80), null, isEchoed ? 0 : 30]),
    partition: isEchoed || happens(0.3) ? undefined : 'ours',
    restartable: happens(0.5),
    ...(isEchoed ? { promptLogprobs: oneOf([0, 2]) } : {}),
    sampling: {
      ...request([]).sampling,
      seed: pick(1000),
      temperature: oneOf([0, 0, 0.3, 0.8, 1.5]),
      topP: oneOf([1, 1, 0.7]),
      topK: oneOf([0, 0, 5]),
      minP: oneOf([0, 0, 0.1]),
      presencePenalty: oneOf([0, 0, 0.6]),
      frequencyPenalty: oneOf([0, 0, 0.4, -0.5]),
      repetitionPenalty: oneOf([1, 1, 1.3]),
      topLogprobs: oneOf([-1, 0, 3]),
      logitBias: happens(0.2) ? [{ token: pick(VOCABULARY), bias: 3 }] : [],
    },
  }
  return () => ({ ...request(prompt, fields), constraint: isConstrained ? constrain() : undefined })
}

/** Adds a stop string that the output comes to, and a prediction that is mostly right, to some requests. */
function withHints(spec: Spec, { text, all }: Output, { pick, happens }: Choices): Spec {
  const at = pick(Math.max(1, text.length - 3))
  const stops = text.length > 5 && happens(0.35) ? [text.slice(at, at + 1 + pick(4))] : []
  const predicted = all.slice(spec().prompt.length)
  const prediction = predicted.map((token) => (happens(0.1) ? pick(VOCABULARY) : token))
  const isPredicted = happens(0.3)
  return () => ({ ...spec(), stops, prediction: isPredicted ? prediction : undefined })
}

/** What a client gets, as far as it was read, and what a receipt is made from. */
type Output = Awaited<ReturnType<typeof read>>

async function read({ events, outcome }: Generation) {
  const got = { text: '', tokens: [] as unknown[], promptScores: undefined as unknown }
  try {
    for await (const event of events) {
      if (event.type === 'prompt') got.promptScores = structuredClone(event.scores)
      if (event.type !== 'text') continue
      got.text += event.text
      got.tokens.push(...event.tokens)
    }
  } catch {
    // The outcome says why it ended.
  }
  const { finishReason, completionTokens, promptTokens, text } = await outcome
  return { ...got, finishReason, completionTokens, promptTokens, all: [...text.tokens] }
}

/** Returns what an output should have of the whole one. */
function asFarAs(got: Output, whole: Output): Output {
  if (got.finishReason === 'stop' || got.finishReason === 'length') return whole
  const { text, tokens } = got
  return { ...got, text: whole.text.slice(0, text.length), tokens: whole.tokens.slice(0, tokens.length) }
}

/** Starts an engine and counts what happens in it. */
async function start(native: Addon, model: DenseModel, policy: Partial<EnginePolicy>) {
  const seen = { accepted: 0, preempted: 0, cached: 0 }
  const kvTokens = policy.kvTokens ?? 1024
  const backend = createSparseBackend({ addon: native, threads: 2, kvTokens, ownTokens: 0 })
  let nowMs = 0
  const engine = createEngine({
    backend,
    config: model.config,
    codec: model.codec,
    // All steps take the same time, so a further token costs nothing.
    nowMs: () => (nowMs += 1),
    policy: { ...policy, kvTokens, contextLength: CONTEXT },
    inspect(state, checked) {
      checkInvariants(state, checked)
      seen.preempted += state.requests.filter(({ status }) => status.kind === 'waiting' && status.pin).length
    },
    observer: {
      step: ({ acceptedDrafts }) => void (seen.accepted += acceptedDrafts),
      ended: ({ cachedTokens }) => void (seen.cached += cachedTokens),
    },
  })
  const weights = await backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
  engine.setActive(weights)
  const close = async () => {
    engine.close()
    await backend.release(weights)
  }
  return { engine, weights, seen, close }
}

/** Runs random load, checks each output, and returns what happened how often. */
async function runLoad(native: Addon, model: DenseModel, constrain: () => TokenConstraint, seed: number) {
  const choices = choicesOf(seed)
  const { pick, oneOf, tokens } = choices
  const passages = Array.from({ length: 4 }, () => tokens(20 + pick(60)))
  const alone = await start(native, model, { draftTokens: 0 })
  const cases: { spec: Spec; expected: Output }[] = []
  for (let index = 0; index < REQUESTS; index++) {
    const plain = randomSpec(choices, passages, constrain)
    const spec = withHints(plain, await read(alone.engine.generate(plain())), choices)
    cases.push({ spec, expected: await read(alone.engine.generate(spec())) })
  }
  await alone.close()
  const { engine, weights, seen, close } = await start(native, model, {
    draftTokens: oneOf([2, 5, 8, 16]),
    kvTokens: oneOf([CONTEXT + 64, 512]),
    prefillChunk: oneOf([16, 32, 64]),
    maxRunning: oneOf([4, 6]),
    maxWaiting: REQUESTS,
    scoringShare: 0.2,
  })
  const wait = async (turns: number) => {
    for (let turn = 0; turn < turns; turn++) await nextTurn()
  }
  const ends = { stop: 0, length: 0, cancelled: 0, refused: 0, error: 0 }
  await Promise.all(
    cases.map(async ({ spec, expected }, index) => {
      await wait(pick(2000))
      const abort = new AbortController()
      const reading = read(engine.generate({ ...spec(), signal: abort.signal }))
      if (index % 8 === 0) await engine.score({ weights, tokens: passages[0]!, lane: 'drift' })
      if (index % 6 === 0) {
        await wait(pick(300))
        abort.abort()
      }
      const got = await reading
      ends[got.finishReason] += 1
      expect(got).toEqual(asFarAs(got, expected))
    }),
  )
  expect(engine.load().kvTokensUsed).toBe(0)
  await close()
  return { ...ends, ...seen }
}

if (!addon) skipWithoutAddon('the sparse engine')
test.runIf(addon)(
  'preempted, cancelled, stopped and constrained outputs have the tokens and log-probabilities that they have alone',
  async () => {
    const tiny = await openTinyModel({ contextLength: 512 })
    onTestFinished(() => tiny.remove())
    const constrain = await createGrammarCompiler(tiny.model).compile(jsonOf(DOCUMENT_SCHEMA))
    const all: Awaited<ReturnType<typeof runLoad>>[] = []
    for (let seed = 1; seed <= 3; seed++) all.push(await runLoad(addon!, tiny.model, constrain, seed))
    const total = (of: keyof (typeof all)[number]) => all.reduce((sum, seen) => sum + seen[of], 0)
    expect(total('accepted')).toBeGreaterThan(100)
    const happened = ['preempted', 'cached', 'stop', 'length', 'cancelled'] as const
    expect(happened.filter((of) => total(of) === 0)).toEqual([])
    expect(total('error') + total('refused')).toBe(0)
  },
)
