/**
 * Decides what runs next. Pure: reads the state and changes nothing.
 *
 * - Admission is strictly first come, first served. If the first request is large, the others wait for it, so it cannot
 *   starve.
 *   Admission is optimistic: a request is admitted when there are pages for its present tokens and one more page for each
 *   running request; the length of its output is not considered. Pages that it can share with other requests
 *   (`prefix-reuse.ts`) cost nothing. A request whose next page another one is about to fill waits for that page and
 *   blocks no other request, so several choices of one prompt, and equal prompts that arrive together, are computed once.
 * - Every running request gets its next token in every step of its weight set. The rest of the step's tokens goes to
 *   prompts, one chunk each, least recently served first, so a short prompt does not wait for a long one.
 * - When there is no page for a next token, scoring requests are preempted first, then the youngest request. The oldest request
 *   always gets its pages, so there is no deadlock. A preempted request prefills its prompt and its output again, in
 *   chunks, or shares what is still cached of it. The result has the same bits on the sparse engine and is equal up to
 *   rounding on ONNX.
 * - Scoring uses whole steps when no generation runs. While generations run, it gets a small chunk every few steps.
 */
import { PAGE_TOKENS, type SequenceWork, type WeightSet } from '../contract/backend.ts'
import { freePages, holdersOf, pagesFor } from './page-pool.ts'
import { cachedPages, keysToFill, nextSharedKey } from './prefix-reuse.ts'
import { pinOf, prefillLength, sequenceOf, type Request, type Sequence } from './engine-request.ts'
import type { EnginePolicy } from './engine-policy.ts'
import { pendingDrops, runningRequests, waitingRequests, type EngineState } from './engine-state.ts'

/** Tokens `from … to - 1` of one request. */
export interface DraftWork {
  readonly request: Request
  readonly from: number
  readonly to: number
  readonly output: SequenceWork['output']
  /** Pages of the tokens before `from` that the request shares; none unless it is admitted. */
  readonly shared: readonly number[]
}

/** One planned step of one weight set, not yet reserved. */
export interface StepDraft {
  readonly weights: WeightSet
  /** Sequences that the backend must drop. */
  readonly drops: readonly number[]
  /** Requests that leave the queue with this step; each has work in it. */
  readonly admissions: readonly Request[]
  readonly work: readonly DraftWork[]
}

/** Returns the requests to preempt so that the next step of `weights` has its pages; youngest first. */
export function choosePreemptions(state: EngineState, weights: WeightSet, policy: EnginePolicy): Request[] {
  const victims: Request[] = []
  /** How many holders each page of the victims still has. */
  const holders = new Map<number, number>()
  let free = freePages(state.pages)
  const preempt = (candidates: readonly Request[]): boolean => {
    const victim = candidates.findLast((request) => !victims.includes(request) && canPreempt(request))
    if (!victim) return false
    victims.push(victim)
    for (const page of sequenceOf(victim)?.pages ?? []) {
      const left = (holders.get(page) ?? holdersOf(state.pages, page)) - 1
      holders.set(page, left)
      if (left === 0) free += 1
    }
    return true
  }
  const scores = state.requests.filter((request) => request.goal.kind === 'score')
  const running = runningRequests(state)
  for (const request of running) {
    if (request.status.kind !== 'decode' || pinOf(request) !== weights || victims.includes(request)) continue
    const needed = pagesForNext(request.status.sequence)
    const younger = running.filter((other) => other.order > request.order)
    while (free < needed && (preempt(scores) || preempt(younger))) continue
    if (free >= needed) free -= needed
  }
  const [head] = waitingRequests(state)
  if (head && startsOn(state, head, weights) && running.length < policy.maxRunning) {
    const { needed } = admission(state, head, weights)
    while (free < needed + running.length && preempt(scores)) continue
  }
  return victims
}

/** Plans the next step of `weights`; it has neither work nor drops when there is nothing to do. */
export function planStep(state: EngineState, weights: WeightSet, policy: EnginePolicy): StepDraft {
  const drops = pendingDrops(state, weights)
  const work: DraftWork[] = []
  let free = freePages(state.pages)
  let budget = policy.stepTokens

  const running = runningRequests(state)
  for (const request of running) {
    if (request.status.kind !== 'decode' || pinOf(request) !== weights) continue
    const { sequence } = request.status
    const needed = pagesForNext(sequence)
    if (needed > free) continue
    work.push({ request, from: sequence.fed, to: sequence.fed + 1, output: 'token', shared: [] })
    free -= needed
    budget -= 1
  }

  const admissions: Request[] = []
  const feeding = running.filter((request) => request.status.kind === 'prefill' && pinOf(request) === weights)
  const inTurn = [...feeding, ...waitingRequests(state)].toSorted(
    (a, b) => a.turn - b.turn || a.order - b.order,
  )
  /** Keys of pages that running or newly admitted requests are about to fill. */
  const filling = new Set(feeding.flatMap((request) => keysToFill(request, weights, fedOf(request))))
  let admitting = true
  for (const request of inTurn) {
    const sequence = sequenceOf(request)
    const ahead = running.length + admissions.length
    admitting &&= sequence !== undefined || (ahead < policy.maxRunning && startsOn(state, request, weights))
    if (!sequence && !admitting) continue
    const { shared, needed } = sequence ? { shared: [], needed: 0 } : admission(state, request, weights)
    const next = sequence ? undefined : nextSharedKey(request, weights, shared.length)
    if (next !== undefined && filling.has(next)) continue
    const from = sequence?.fed ?? shared.length * PAGE_TOKENS
    const to = Math.min(prefillLength(request), nextBoundary(from, policy.prefillChunk))
    if (to - from > budget) break
    if (!sequence) {
      admitting = needed + ahead <= free
      if (!admitting) continue
      admissions.push(request)
      free -= needed
      for (const key of keysToFill(request, weights, from)) filling.add(key)
    }
    work.push({ request, from, to, output: prefillOutput(request, to), shared })
    budget -= to - from
  }

  const scoring = planScore(state, weights, policy, { free, budget, admitted: admissions.length })
  if (scoring?.admit) admissions.push(scoring.work.request)
  if (scoring) work.push(scoring.work)
  return { weights, drops, admissions, work }
}

/** Returns whether a draft has nothing for the backend. */
export function isIdle(draft: StepDraft): boolean {
  return draft.work.length === 0 && draft.drops.length === 0
}

function planScore(
  state: EngineState,
  weights: WeightSet,
  policy: EnginePolicy,
  { free, budget, admitted }: { free: number; budget: number; admitted: number },
): { work: DraftWork; admit: boolean } | undefined {
  const request = state.requests.find((other) => other.goal.kind === 'score' && pinOf(other) === weights)
  if (!request || admitted > 0) return undefined
  const quiet = !state.requests.some(({ goal }) => goal.kind !== 'score')
  if (!quiet && state.stepsSinceScore < policy.scoreEverySteps) return undefined
  const sequence = sequenceOf(request)
  if (!sequence && pagesFor(request.tokens.length) > free) return undefined
  const from = sequence?.fed ?? 0
  const piece = Math.min(
    quiet ? policy.prefillChunk : policy.scoreChunk,
    prefillLength(request) - from,
    budget,
  )
  if (piece < 1) return undefined
  const output = request.goal.kind === 'score' && request.goal.sum ? 'hidden_sum' : 'nll'
  return { work: { request, from, to: from + piece, output, shared: [] }, admit: !sequence }
}

function startsOn(state: EngineState, request: Request, weights: WeightSet): boolean {
  return (pinOf(request) ?? state.active) === weights
}

function prefillOutput(request: Request, to: number): SequenceWork['output'] {
  if (request.goal.kind === 'embed') return 'hidden_sum'
  return to === prefillLength(request) ? 'token' : 'none'
}

/** Returns the pages that a waiting request can share, and the number of free pages that admitting it takes. */
function admission(
  state: EngineState,
  request: Request,
  weights: WeightSet,
): { shared: number[]; needed: number } {
  const shared = cachedPages(state, request, weights)
  const idle = shared.filter((page) => holdersOf(state.pages, page) === 0).length
  return { shared, needed: pagesFor(request.tokens.length) - shared.length + idle }
}

function fedOf(request: Request): number {
  return sequenceOf(request)?.fed ?? 0
}

/** Returns the number of pages that a sequence takes with its next token. */
function pagesForNext({ fed, pages }: Sequence): number {
  return pagesFor(fed + 1) - pages.length
}

function canPreempt(request: Request): boolean {
  const sequence = sequenceOf(request)
  return sequence !== undefined && !sequence.inFlight
}

function nextBoundary(position: number, chunk: number): number {
  return (Math.floor(position / chunk) + 1) * chunk
}
