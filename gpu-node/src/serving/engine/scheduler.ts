/**
 * What to run next. Pure: reads the state, changes nothing.
 *
 * - Admission is strictly first come, first served: a large request at the head is waited for, so it cannot
 *   starve. It is optimistic: a request comes in when there are pages for the tokens that it has, and one more
 *   for each request that runs, which its next tokens may need; how long its answer will be nobody asks. Pages that
 *   other requests hold and it can share (`prefix.ts`) cost it nothing. One whose next page another request is about to
 *   fill waits for that page, and holds up nobody: choices of one prompt, and whoever asks the same at the same time, have it
 *   computed once.
 * - Every running request gets its next token in every step of its weight set. What is left of the
 *   step's tokens goes to prompts, one piece each, the one served longest ago first: a short
 *   prompt does not wait for a long one to finish.
 * - When there is no page for a next token, scoring gives way first, then the youngest request; the oldest always
 *   gets what it needs, so there is no deadlock. Whoever gave way feeds its prompt and its answer so far
 *   again, in pieces, or shares what is still remembered of it: the same bits on the sparse engine, equal up to
 *   rounding on ONNX.
 * - Scoring has the processor when no request runs; beside requests it gets a small piece every few
 *   steps, so that it neither holds them up nor starves.
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

/** One step of one weight set, decided and not yet reserved. */
export interface StepDraft {
  readonly weights: WeightSet
  /** Sequences that the backend can forget. */
  readonly drops: readonly number[]
  /** Requests that leave the queue with this step; each has work in it. */
  readonly admissions: readonly Request[]
  readonly work: readonly DraftWork[]
}

/** Whom to preempt so that the next step of `weights` has its pages; youngest first. */
export function choosePreemptions(state: EngineState, weights: WeightSet, policy: EnginePolicy): Request[] {
  const victims: Request[] = []
  /** Who would still hold the pages of the victims. */
  const holders = new Map<number, number>()
  let free = freePages(state.pages)
  const evict = (candidates: readonly Request[]): boolean => {
    const victim = candidates.findLast((request) => !victims.includes(request) && canEvict(request))
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
    while (free < needed && (evict(scores) || evict(younger))) continue
    if (free >= needed) free -= needed
  }
  const [head] = waitingRequests(state)
  if (head && startsOn(state, head, weights) && running.length < policy.maxRunning) {
    const { needed } = admission(state, head, weights)
    while (free < needed + running.length && evict(scores)) continue
  }
  return victims
}

/** The next step of `weights`; without work and drops when there is nothing to do. */
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
  /** Pages that are computed already, or are about to be, by their keys. */
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

/** Whether a draft has anything for the backend. */
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
  return { work: { request, from, to: from + piece, output: 'nll', shared: [] }, admit: !sequence }
}

function startsOn(state: EngineState, request: Request, weights: WeightSet): boolean {
  return (pinOf(request) ?? state.active) === weights
}

function prefillOutput(request: Request, to: number): SequenceWork['output'] {
  if (request.goal.kind === 'embed') return 'hidden_sum'
  return to === prefillLength(request) ? 'token' : 'none'
}

/** What a waiting request can share, and the free pages that it would take: for its own tokens, and shared ones. */
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

/** Pages that a sequence takes with its next token. */
function pagesForNext({ fed, pages }: Sequence): number {
  return pagesFor(fed + 1) - pages.length
}

function canEvict(request: Request): boolean {
  const sequence = sequenceOf(request)
  return sequence !== undefined && !sequence.inFlight
}

function nextBoundary(position: number, chunk: number): number {
  return (Math.floor(position / chunk) + 1) * chunk
}
