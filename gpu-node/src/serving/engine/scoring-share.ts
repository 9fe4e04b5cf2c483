/**
 * Reserves a share of the work for scoring, so that no backlog of requests starves it, and no backlog of texts takes more.
 *
 * While requests run or wait, every committed step adds its share to a credit, and scoring pays for its part of the step. A
 * piece runs when the credit is not negative. It may then be overdrawn by one piece, which later steps repay. Without
 * requests, scoring runs freely and pays nothing. Its first pieces are small then, because a request that comes between two of
 * a client waits for the piece that runs.
 *
 * The lanes share the time equally, by tokens: of the texts that wait, the one runs next whose lane has had least. A lane that
 * was empty saves nothing up.
 *
 * Scoring has pages of its own: requests leave `scoreKvTokens` of the key/value budget to it. One text at a time is scored.
 */
import { freePages, pagesFor } from './page-pool.ts'
import {
  pinOf,
  prefillLength,
  sequenceOf,
  type Request,
  type ScoreGoal,
  type ScoreLane,
} from './engine-request.ts'
import type { EnginePolicy } from './engine-policy.ts'
import type { EngineState } from './engine-state.ts'
import type { PlannedWork } from './planned-step.ts'
import type { WeightSet } from '../contract/backend.ts'

/**
 * Largest cost of one step, and largest credit, in milliseconds. A longer step is a stall of the machine: taken in full,
 * it would silence scoring for minutes or let it run on for as long.
 */
const MAX_COST = 1_000

/** Tokens of the first piece after the last request; each further piece has twice as many, up to a prefill chunk. */
const FIRST_QUIET_PIECE = 8

/** Returns the scorings that have not ended, in order of arrival. */
export function scoringRequests({ requests }: EngineState): Request[] {
  return requests.filter(({ goal }) => goal.kind === 'score')
}

/** Whether no request runs or waits, so that scoring takes nothing from any. */
export function isQuiet({ requests }: EngineState): boolean {
  return requests.every(({ goal }) => goal.kind === 'score')
}

/** Returns the number of free pages for requests; unused pages of scoring are not among them. */
export function pagesForRequests(state: EngineState, policy: EnginePolicy): number {
  return freePages(state.pages) - Math.max(0, pagesFor(policy.scoreKvTokens) - scorePages(state))
}

/** Returns the number of pages that scorings hold, including abandoned ones whose step still runs. */
export function scorePages({ requests, abandoned }: EngineState): number {
  const sequences = [...requests.flatMap((request) => sequenceOf(request) ?? []), ...abandoned]
  return sequences.reduce((sum, { scores, pages }) => sum + (scores ? pages.length : 0), 0)
}

/**
 * Returns the scoring that runs next, whatever its weights: the one that has begun, otherwise the oldest of the lane that
 * has had least.
 */
function nextScoring(state: EngineState): Request | undefined {
  const scorings = scoringRequests(state)
  const begun = scorings.find((request) => sequenceOf(request))
  if (begun) return begun
  const startOf = ({ goal }: Request) => (goal.kind === 'score' ? startOn(state, goal.lane) : 0)
  return scorings.toSorted((a, b) => startOf(a) - startOf(b) || a.order - b.order)[0]
}

/** Returns where on the clock a lane's next text starts. */
function startOn({ scoring: { clock, ends } }: EngineState, lane: ScoreLane): number {
  return Math.max(clock, ends.get(lane) ?? 0)
}

/** Accounts for a text that begins, to its lane. */
export function beginScoring(state: EngineState, { lane }: ScoreGoal, tokens: number): void {
  const start = startOn(state, lane)
  state.scoring.clock = start
  state.scoring.ends.set(lane, start + tokens)
}

/**
 * Plans the piece of scoring that the next step of `weights` contains, beyond the step's tokens for requests.
 *
 * @param free pages that the rest of the step leaves, including those of scoring
 */
export function planScoring(
  state: EngineState,
  weights: WeightSet,
  policy: EnginePolicy,
  free: number,
): { work: PlannedWork; admit: boolean } | undefined {
  const request = nextScoring(state)
  if (request?.goal.kind !== 'score' || pinOf(request) !== weights) return undefined
  const quiet = isQuiet(state)
  if (!quiet && (policy.scoringShare === 0 || state.scoring.credit < 0)) return undefined
  const sequence = sequenceOf(request)
  if (!sequence && pagesFor(request.tokens.length) > free) return undefined
  const from = sequence?.fed ?? 0
  const piece = quiet ? quietPiece(state, policy) : policy.scoreChunk
  const to = Math.min(prefillLength(request), from + piece)
  const output = request.goal.sum ? 'hidden_sum' : 'nll'
  return { work: { request, from, to, output, shared: [] }, admit: !sequence }
}

function quietPiece({ scoring }: EngineState, { prefillChunk }: EnginePolicy): number {
  return Math.min(prefillChunk, FIRST_QUIET_PIECE * 2 ** scoring.quietSteps)
}

/**
 * Accounts for a committed step.
 *
 * @param step its tokens, and whether requests ran or waited when it was planned
 * @param cost duration of the step in milliseconds, without the time in which another step ran
 */
export function payForStep(
  state: EngineState,
  { scoringShare }: Pick<EnginePolicy, 'scoringShare'>,
  step: { scoreTokens: number; tokens: number; quiet: boolean },
  cost: number,
): void {
  const { scoring } = state
  scoring.quietSteps = step.quiet ? scoring.quietSteps + 1 : 0
  if (step.quiet || step.tokens === 0) return
  const scored = step.scoreTokens / step.tokens
  scoring.credit += Math.min(cost, MAX_COST) * (scoringShare - scored)
  // While no text waits, no credit is saved up.
  const isWanted = scoringRequests(state).length > 0
  scoring.credit = Math.min(scoring.credit, isWanted ? MAX_COST : 0)
}
