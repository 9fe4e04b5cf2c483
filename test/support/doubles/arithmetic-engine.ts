import { onTestFinished } from 'vitest'
import type { EngineDeps } from '../../../gpu-node/src/serving/engine/engine-api.ts'
import { createEngine } from '../../../gpu-node/src/serving/engine/engine.ts'
import type {
  GenerateEvent,
  GenerateRequest,
  Generation,
} from '../../../gpu-node/src/serving/engine/generation-request.ts'
import { checkInvariants } from '../engine/engine-invariants.ts'
import { createArithmeticBackend, HIDDEN_SIZE, type ArithmeticOptions } from './arithmetic-backend.ts'
import { GREEDY } from '../../../gpu-node/src/serving/contract/greedy.ts'
import { WAIT } from '../harness/wait.ts'

/** The model of {@link createArithmeticBackend}. */
export const CONFIG = {
  vocabSize: 256,
  contextLength: 128,
  hiddenSize: HIDDEN_SIZE,
  eosTokenIds: [] as number[],
}
/** Token n is the letter n mod 26. */
export const CODEC = { tokenBytes: (id: number) => Uint8Array.of(97 + (id % 26)), isSpecial: () => false }
/** Returns the text of tokens. */
export const textOf = (tokens: readonly number[]) =>
  tokens.map((id) => String.fromCharCode(97 + (id % 26))).join('')

/** Starts an engine on the arithmetic backend. Its invariants are checked after every transition. */
export function startArithmeticEngine(options: Partial<EngineDeps> & ArithmeticOptions = {}) {
  const { onStep, seed = 1, vocabSize = CONFIG.vocabSize, ...deps } = options
  const backend = createArithmeticBackend({ ...(onStep ? { onStep } : {}), seed, vocabSize })
  const engine = createEngine({ backend, config: CONFIG, codec: CODEC, inspect: checkInvariants, ...deps })
  onTestFinished(() => engine.close())
  return { backend, engine }
}

let nextId = 0
/** Returns a request for ten greedy tokens, with `fields` applied. */
export function request(
  prompt: readonly number[],
  fields: Partial<GenerateRequest> & { seed?: number } = {},
): GenerateRequest {
  const { seed = 0, ...rest } = fields
  return {
    id: `request-${nextId++}`,
    prompt,
    maxTokens: 10,
    stops: [],
    restartable: false,
    sampling: { ...GREEDY, seed },
    ...rest,
  }
}

/** Reads a generation to its end. A second `pinned` event restarts the text. */
export async function readGeneration({ events, outcome }: Generation) {
  let answer = ''
  const versions: number[] = []
  let finished: GenerateEvent | undefined
  for await (const event of events) {
    if (event.type === 'pinned') {
      versions.push(event.maskVersion)
      answer = ''
    } else if (event.type === 'text') answer += event.text
    else finished = event
  }
  return { text: answer, versions, finished, outcome: await outcome }
}

/** Resolves when the condition holds. Checks it after every macrotask. */
export async function untilTrue(condition: () => boolean) {
  const untilMs = performance.now() + WAIT.timeout
  while (!condition()) {
    if (performance.now() > untilMs) throw new Error('the condition never held')
    await new Promise((resolve) => setImmediate(resolve))
  }
}
