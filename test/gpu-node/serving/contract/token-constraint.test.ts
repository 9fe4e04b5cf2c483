import { afterEach, expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { TokenMask } from '../../../../gpu-node/src/serving/contract/backend.ts'
import type { Engine } from '../../../../gpu-node/src/serving/engine/engine-api.ts'
import type { TokenConstraint } from '../../../../gpu-node/src/serving/contract/token-constraint.ts'
import { createEngine } from '../../../../gpu-node/src/serving/engine/engine.ts'
import type { GenerateEvent, Generation } from '../../../../gpu-node/src/serving/engine/generation-request.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { createArithmeticBackend } from '../../../support/doubles/arithmetic-backend.ts'
import { GREEDY } from '../../../../gpu-node/src/serving/contract/greedy.ts'
import { maskOf } from '../../../support/engine/token-masks.ts'

const CONFIG = { vocabSize: 256, hiddenSize: 8, contextLength: 128, eosTokenIds: [255] }
/** A codec in which token n is character n. */
const CODEC = { tokenBytes: (id: number) => Uint8Array.of(id % 128), isSpecial: () => false }

const engines: Engine[] = []
afterEach(() => {
  for (const engine of engines.splice(0)) engine.close()
})

function setup(policy: object = {}) {
  const backend = createArithmeticBackend({ seed: 1 })
  const engine = createEngine({ backend, config: CONFIG, codec: CODEC, inspect: checkInvariants, policy })
  engines.push(engine)
  engine.setActive(backend.weights(1))
  return { backend, engine }
}

/** A constraint that allows one of two tokens after n tokens, and only the end token after 20. */
function counting(
  delayTurns: () => number = () => 0,
): TokenConstraint & { asked: number[][]; readonly released: number } {
  const asked: number[][] = []
  let released = 0
  return {
    asked,
    release: () => void (released += 1),
    get released() {
      return released
    },
    async forcedAfter(generated) {
      return generated.length % 3 === 0 && generated.length < 20 ? [40 + 2 * generated.length] : []
    },
    async allowedAfter(generated, drafts = []): Promise<readonly TokenMask[]> {
      asked.push([...generated])
      for (let turns = delayTurns(); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
      for (const [index, token] of generated.entries()) expect(Math.floor((token - 40) / 2)).toBe(index)
      const after = (length: number) => {
        const next = 40 + 2 * length
        return maskOf(256, length === 20 ? [255] : [next, next + 1])
      }
      const length = generated.length
      const wrong = drafts.findIndex(
        (draft, index) => draft >> 1 !== 20 + length + index || length + index >= 20,
      )
      const right = wrong < 0 ? drafts.length : wrong
      return Array.from({ length: right + 1 }, (_, index) => after(length + index))
    },
  }
}

/**
 * A {@link counting} constraint that takes many turns of the event loop after four tokens, so that a test can act there: more than
 * the shortest timer takes, by which an output is restarted.
 */
function waitingAtFifth(): ReturnType<typeof counting> {
  const constraint = counting(() => (constraint.asked.length === 5 ? 2000 : 0))
  return constraint
}

let nextId = 0
const request = (prompt: readonly number[], constraint: TokenConstraint | undefined, seed = 0) => ({
  id: `request-${nextId++}`,
  prompt,
  maxTokens: 40,
  stops: [],
  restartable: false,
  sampling: { ...GREEDY, seed },
  constraint,
})

async function read({ events, outcome }: Generation) {
  let text = ''
  let finished: GenerateEvent | undefined
  for await (const event of events) {
    if (event.type === 'pinned') text = ''
    else if (event.type === 'text') text += event.text
    else finished = event
  }
  return { text, finished, outcome: await outcome }
}

test('output contains only allowed tokens and ends when only the end token is allowed', async () => {
  const { engine } = setup()
  const constraint = counting()
  const { text, finished } = await read(engine.generate(request([1, 2, 3], constraint)))
  expect(Array.from(text, (character) => character.charCodeAt(0) >> 1)).toEqual(
    Array.from({ length: 20 }, (_, index) => (40 + 2 * index) >> 1),
  )
  expect(finished).toMatchObject({ reason: 'stop', completionTokens: 20 })
  // Tokens that are drafted and right need not be asked about.
  const lengths = constraint.asked.map((generated) => generated.length)
  expect(lengths).toEqual([...new Set(lengths)].toSorted((a, b) => a - b))
  expect([lengths[0], lengths.at(-1)]).toEqual([0, 20])
  expect(lengths.length).toBeLessThan(21)
})

/** Close to the end of a page, so that outputs soon need more pages. */
const promptOf = (seed: number) => Array.from({ length: 14 }, (_, index) => seed + index)

test('outputs with and without constraints run together, and preempted ones continue with the same text', async () => {
  const alone = await Promise.all(
    Array.from({ length: 6 }, async (_, seed) => {
      const { engine } = setup()
      return (
        await read(engine.generate(request(promptOf(seed), seed % 3 === 0 ? undefined : counting(), seed)))
      ).text
    }),
  )
  const { engine, backend } = setup({ kvTokens: 64, maxRunning: 6, prefillChunk: 8 })
  let turn = 0
  const constraints = Array.from({ length: 6 }, () => counting(() => (turn = (turn * 7 + 3) % 5)))
  const together = await Promise.all(
    constraints.map((constraint, seed) =>
      read(engine.generate(request(promptOf(seed), seed % 3 === 0 ? undefined : constraint, seed))),
    ),
  )
  expect(together.map(({ text }) => text)).toEqual(alone)
  const starts = backend.plans.flatMap(({ work }) => work.filter(({ sampler }) => sampler))
  expect(starts.length, 'somebody was preempted').toBeGreaterThan(6)
})

test('a failed constraint ends only its own request, with its error', async () => {
  const { engine } = setup()
  let released = 0
  const failing: TokenConstraint = {
    release: () => void (released += 1),
    forcedAfter: () => Promise.resolve([]),
    allowedAfter: (generated) =>
      generated.length < 3
        ? Promise.resolve([maskOf(256, [65])])
        : Promise.reject(new AppError('invalid_request', 'too costly')),
  }
  const generation = engine.generate(request([1], failing))
  const [failed, other] = await Promise.allSettled([
    read(generation),
    read(engine.generate(request([2], counting()))),
  ])
  expect(failed).toMatchObject({
    status: 'rejected',
    reason: { code: 'invalid_request', message: 'too costly' },
  })
  expect(other).toMatchObject({ status: 'fulfilled', value: { finished: { reason: 'stop' } } })
  expect(await generation.outcome).toMatchObject({ finishReason: 'refused', completionTokens: 3 })
  expect(engine.load().running).toBe(0)
  expect(released).toBe(1)
})

test('a constraint is released when its output has ended, complete or not, and not before', async () => {
  const { engine } = setup()
  const [whole, left, unread] = [waitingAtFifth(), waitingAtFifth(), counting()]
  const leaves = new AbortController()
  const reading = Promise.allSettled([
    read(engine.generate(request([1], whole))),
    read(engine.generate({ ...request([2], left), signal: leaves.signal })),
    read(engine.generate({ ...request([3], unread), signal: AbortSignal.abort() })),
  ])
  while (left.asked.length < 5) await new Promise((resolve) => setImmediate(resolve))
  expect([whole.released, left.released, unread.released]).toEqual([0, 0, 1])
  leaves.abort()
  await reading
  expect([whole.released, left.released, unread.released]).toEqual([1, 1, 1])
})

test('an output that restarts on other weights restarts its constraint', async () => {
  const { engine, backend } = setup()
  const constraint = waitingAtFifth()
  const generation = engine.generate({ ...request([5], constraint), restartable: true })
  const reading = read(generation)
  while (constraint.asked.length < 5) await new Promise((resolve) => setImmediate(resolve))
  engine.setActive(backend.weights(2))
  await engine.drain(1, 0)
  const { finished, text } = await reading
  expect(finished).toMatchObject({ reason: 'stop', completionTokens: 20 })
  expect(text).toHaveLength(20)
  expect(constraint.asked.filter((generated) => generated.length === 0)).toHaveLength(2)
  expect(constraint.released).toBe(2)
})
