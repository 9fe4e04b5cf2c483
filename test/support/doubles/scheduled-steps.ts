import type {
  SamplerSpec,
  SequenceOutput,
  WeightSet,
} from '../../../gpu-node/src/serving/contract/backend.ts'
import { checkInvariants } from '../engine/engine-invariants.ts'
import type { createPolicy } from '../../../gpu-node/src/serving/engine/engine-policy.ts'
import type { Request, ScoreLane } from '../../../gpu-node/src/serving/engine/engine-request.ts'
import { draftsOf } from '../../../gpu-node/src/serving/engine/drafting.ts'
import type { PlannedWork } from '../../../gpu-node/src/serving/engine/planned-step.ts'
import { choosePreemptions, planStep } from '../../../gpu-node/src/serving/engine/scheduler.ts'
import {
  addRequest,
  preemptRequest,
  type EngineState,
} from '../../../gpu-node/src/serving/engine/engine-state.ts'
import { payForStep } from '../../../gpu-node/src/serving/engine/scoring-share.ts'
import { commitStep, reserveStep, tokensByKind } from '../../../gpu-node/src/serving/engine/step-plan.ts'

const SAMPLER = { seed: 1, topLogprobs: -1 } as SamplerSpec

/** Returns a weight set without weights. */
export const weightSet = (version: number): WeightSet => ({
  version,
  source: null as never,
  paged: true,
  takesDrafts: true,
  ended: new Promise(() => {}),
})
const prompt = (length: number) => Array.from({ length }, (_, index) => index)
/** Adds a request that never ends by itself. */
export const generate = (
  state: EngineState,
  length: number,
  partition: string | null = null,
  maxNewTokens = 1000,
): Request =>
  addRequest(
    state,
    { kind: 'generate', sampler: SAMPLER, maxNewTokens, restartable: false, partition, prefixes: [] },
    prompt(length),
    null,
  )
/** Adds a text to score. */
export const score = (
  state: EngineState,
  length: number,
  weights: WeightSet,
  lane: ScoreLane = 'drift',
): Request =>
  addRequest(
    state,
    { kind: 'score', lane, first: 1, nll: new Float32Array(length - 1), sum: null },
    prompt(length),
    weights,
  )

/** Returns the output of a work as a backend would, with these tokens. */
export function outputOf(work: PlannedWork, nextToken: () => number): SequenceOutput {
  const { output, from, to } = work
  if (output === 'nll') return { kind: 'nll', nll: new Float32Array(to - from).fill(1) }
  if (output !== 'token') return { kind: 'none' }
  const sampled = [nextToken()]
  for (const draft of draftsOf(work)) {
    if (draft !== sampled.at(-1)) break
    sampled.push(nextToken())
  }
  const [first, ...more] = sampled.map((token) => ({ token, logprob: 0, top: [] }))
  return { kind: 'token', ...first!, more }
}

/** Runs one step as a backend would; every sampled token is 7, and every token costs the same. */
export function step(state: EngineState, weights: WeightSet, policy: ReturnType<typeof createPolicy>) {
  for (const victim of choosePreemptions(state, weights, policy)) preemptRequest(state, victim)
  const planned = planStep(state, weights, policy)
  const reserved = reserveStep(state, planned)
  checkInvariants(state, policy)
  const outcome = commitStep(state, reserved, {
    outputs: planned.work.map((work) => outputOf(work, () => 7)),
  })
  const { scoreTokens, ...others } = tokensByKind(reserved)
  const tokens = Object.values(others).reduce((sum, count) => sum + count, scoreTokens)
  payForStep(state, policy, { scoreTokens, tokens, quiet: planned.quiet }, tokens)
  checkInvariants(state, policy)
  return { planned, outcome, scoreTokens, tokens }
}
