/**
 * A step in three moves: `reserve` what a draft takes, run it, then `commit` its results or
 * `release` what was reserved. Until `commit` nothing but the reservation has changed.
 */
import { AppError } from '@copal/shared/errors.ts'
import type { SequenceOutput, SequenceWork, StepPlan, StepResult } from '../backends/backend.ts'
import { pinOf, sequenceOf, type Request, type RequestStatus, type Sequence } from './request.ts'
import type { DraftWork, StepDraft } from './scheduler.ts'
import { kvTokensUsed, pendingDrops, type EngineState } from './state.ts'

/** A draft whose room is reserved. */
export interface ReservedStep {
  readonly draft: StepDraft
  /** What the backend shall run. */
  readonly plan: StepPlan
  /** The sequence of each work of the draft, in its order. */
  readonly sequences: readonly Sequence[]
  /** What `release` restores, by request. */
  readonly before: ReadonlyMap<Request, { status: RequestStatus; held: number | undefined }>
}

/** What a committed step brought. */
export interface StepOutcome {
  /** Requests whose first step on these weights it was. */
  readonly pinned: readonly Request[]
  /** Every request that had work in it and still wants the result. */
  readonly progressed: readonly Request[]
  readonly sampled: readonly { request: Request; output: Extract<SequenceOutput, { kind: 'token' }> }[]
  /** Scorings that are complete; the caller ends them. */
  readonly scored: readonly Request[]
  /** Embeddings whose sums are complete; the caller ends them. */
  readonly embedded: readonly Request[]
}

/** Sets aside what a draft needs and builds the backend's plan. */
export function reserveStep(state: EngineState, draft: StepDraft): ReservedStep {
  const before = new Map<Request, { status: RequestStatus; held: number | undefined }>()
  const usedBefore = kvTokensUsed(state)
  const sequences = draft.work.map(({ request, to }) => {
    before.set(request, { status: request.status, held: sequenceOf(request)?.held })
    const sequence = sequenceOf(request) ?? openSequence(state, draft, request)
    sequence.held = Math.max(sequence.held, to)
    sequence.inFlight = true
    return sequence
  })
  const taken = kvTokensUsed(state) - usedBefore
  const freed = draft.drops.reduce((sum, drop) => sum + drop.tokens, 0)
  state.drops.delete(draft.weights)
  state.freeing.set(draft.weights, Math.max(0, freed - taken))
  const plan: StepPlan = {
    weights: draft.weights,
    work: draft.work.map((work, index) => sequenceWork(work, sequences[index] as Sequence)),
    drop: draft.drops.map((drop) => drop.sequence),
  }
  return { draft, plan, sequences, before }
}

/** Undoes a reservation after a failed step. Sequence ids are not given out twice: the backend may know them. */
export function releaseStep(state: EngineState, step: ReservedStep): void {
  const { draft, sequences, before } = step
  // Weights that were lost meanwhile took what was to be dropped with them.
  if (state.freeing.delete(draft.weights) && draft.drops.length > 0) {
    state.drops.set(draft.weights, [...draft.drops, ...pendingDrops(state, draft.weights)])
  }
  draft.work.forEach(({ request }, index) => {
    const sequence = sequences[index] as Sequence
    const heldBefore = before.get(request)?.held
    sequence.inFlight = false
    if (sequenceOf(request) !== sequence) return shrinkDrop(state, sequence, heldBefore ?? 0)
    request.status = before.get(request)?.status ?? request.status
    if (heldBefore !== undefined) sequence.held = heldBefore
  })
}

/** The request gave its sequence up during the step: what the step had set aside for it was never used. */
function shrinkDrop(state: EngineState, sequence: Sequence, tokens: number): void {
  const drops = state.drops.get(sequence.weights)
  if (!drops) return
  state.drops.set(
    sequence.weights,
    drops.map((drop) => (drop.sequence === sequence.id ? { ...drop, tokens } : drop)),
  )
}

/**
 * Applies the results of a step. Results of requests that ended or started over meanwhile are ignored.
 *
 * @throws AppError `node_failed` before anything is changed when the results do not fit the plan
 */
export function commitStep(state: EngineState, step: ReservedStep, result: StepResult): StepOutcome {
  const { draft, sequences } = step
  checkResult(draft, result)
  state.freeing.delete(draft.weights)

  const pinned: Request[] = []
  const progressed: Request[] = []
  const scored: Request[] = []
  const embedded: Request[] = []
  const sampled: { request: Request; output: Extract<SequenceOutput, { kind: 'token' }> }[] = []
  draft.work.forEach((work, index) => {
    const { request } = work
    const sequence = sequences[index] as Sequence
    const output = result.outputs[index] as SequenceOutput
    sequence.inFlight = false
    if (sequenceOf(request) !== sequence) return
    progressed.push(request)
    if (step.before.get(request)?.status.kind === 'waiting') pinned.push(request)
    sequence.fed = work.to
    if (request.status.kind === 'prefill') request.turn = ++state.turn
    if (output.kind === 'token') {
      request.tokens.push(output.token)
      request.status = { kind: 'decode', sequence }
      sampled.push({ request, output })
    } else if (output.kind === 'nll' && request.goal.kind === 'score') {
      request.goal.nll.set(output.nll, work.from)
      if (work.to === request.goal.nll.length) scored.push(request)
    } else if (output.kind === 'hidden_sum' && request.goal.kind === 'embed') {
      addHidden(request.goal.sum, output.sum, work.from === 0)
      if (work.to === request.tokens.length) embedded.push(request)
    }
  })
  const scoring = draft.work.some((work) => work.output === 'nll')
  const serving = draft.work.some((work) => work.output !== 'nll')
  if (scoring) state.stepsSinceScore = 0
  else if (serving) state.stepsSinceScore += 1
  return { pinned, progressed, sampled, scored, embedded }
}

/** Whoever feeds from the first token again, because it gave way or changed its weights, starts a new sum. */
function addHidden(sum: Float64Array, part: Float32Array, isFirst: boolean): void {
  if (isFirst) sum.fill(0)
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (part[i] as number)
}

function openSequence(state: EngineState, draft: StepDraft, request: Request): Sequence {
  const sequence: Sequence = {
    id: state.nextSequence++,
    weights: pinOf(request) ?? draft.weights,
    fed: 0,
    held: request.tokens.length,
    inFlight: true,
  }
  request.status = { kind: 'prefill', sequence }
  return sequence
}

function sequenceWork({ request, from, to, output }: DraftWork, sequence: Sequence): SequenceWork {
  const work: SequenceWork = {
    sequence: sequence.id,
    tokens: Int32Array.from(request.tokens.slice(from, to)),
    position: from,
    output,
  }
  if (request.goal.kind === 'generate' && from === 0) work.sampler = request.goal.sampler
  if (output === 'nll') work.targets = Int32Array.from(request.tokens.slice(from + 1, to + 1))
  return work
}

function checkResult(draft: StepDraft, { outputs }: StepResult): void {
  const fits =
    outputs.length === draft.work.length &&
    draft.work.every(({ output, from, to }, index) => {
      const got = outputs[index]
      return got?.kind === output && (got.kind !== 'nll' || got.nll.length === to - from)
    })
  if (!fits)
    throw new AppError('node_failed', 'The backend answered a step with results that do not fit its plan.')
}

/** Tokens of a step by what they were for; a prompt fed again after a restart is prefill too. */
export function tokensByKind({ draft }: ReservedStep): {
  prefillTokens: number
  decodeTokens: number
  scoreTokens: number
} {
  const tokens = { prefillTokens: 0, decodeTokens: 0, scoreTokens: 0 }
  for (const { request, from, to, output } of draft.work) {
    if (output === 'nll') tokens.scoreTokens += to - from
    else if (from >= request.promptTokens) tokens.decodeTokens += to - from
    else tokens.prefillTokens += to - from
  }
  return tokens
}
