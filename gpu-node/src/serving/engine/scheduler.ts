/**
 * Decides what runs next. Reads the state and changes nothing but what requests have indexed for drafts.
 *
 * - Admission is strictly first come, first served. If the first request is large, the others wait for it, so it cannot
 *   starve. Only requests without weights to start on, because the active set was lost, let others pass.
 *   Admission is optimistic: a request is admitted when there are pages for its present tokens and one more page for each
 *   running request; the length of its output is not considered. Pages that it can share with other requests
 *   (`prefix-reuse.ts`) cost nothing. A request whose next page another one is about to fill waits for that page and
 *   blocks no other request, so several choices of one prompt, and equal prompts that arrive together, are computed once.
 * - Every running request gets its next token in every step of its weight set. The rest of the step's tokens goes to
 *   prompts, one chunk each, least recently served first, so a short prompt does not wait for a long one.
 * - A step that only decodes may also feed drafts of what follows (`drafting.ts`), on pages that are free.
 * - When there is no page for a next token, the youngest request is preempted. The oldest request always gets its pages, so
 *   there is no deadlock. A preempted request prefills its prompt and its output again, in chunks, or shares what is still
 *   cached of it. The result has the same bits on the sparse engine and is equal up to rounding on ONNX.
 * - Scoring uses whole steps when there are no requests. Beside them it has a reserved share of the work, and pages of its
 *   own (`scoring-share.ts`). A text that holds more pages than these gives them up before any request does.
 */
import { PAGE_TOKENS, type SequenceWork, type WeightSet } from '../contract/backend.ts'
import { addDrafts } from './drafting.ts'
import type { PlannedWork, PlannedStep } from './planned-step.ts'
import { freePages, holdersOf, pagesFor } from './page-pool.ts'
import { cachedPages, keysToFill, nextSharedKey } from './prefix-reuse.ts'
import { pinOf, prefillLength, sequenceOf, type Request, type Sequence } from './engine-request.ts'
import type { EnginePolicy } from './engine-policy.ts'
import { isQuiet, pagesForRequests, planScoring, scorePages, scoringRequests } from './scoring-share.ts'
import { pendingDrops, runningRequests, waitingRequests, type EngineState } from './engine-state.ts'

/**
 * Returns the requests to preempt so that the next step of `weights` has its pages, youngest first. Requests on other weights
 * that wait for a page count too: the younger ones on these weights can only be preempted here, because at any other time they
 * are in a step.
 */
export function choosePreemptions(state: EngineState, weights: WeightSet, policy: EnginePolicy): Request[] {
  const victims: Request[] = []
  /** How many holders each page of the victims still has. */
  const holders = new Map<number, number>()
  const scores = scoringRequests(state)
  const own = pagesFor(policy.scoreKvTokens)
  let held = scorePages(state)
  let free = pagesForRequests(state, policy)
  const preempt = (candidates: readonly Request[]): boolean => {
    const victim = candidates.findLast((request) => !victims.includes(request) && canPreempt(request))
    if (!victim) return false
    victims.push(victim)
    const { pages, scores: isScoring } = sequenceOf(victim)!
    for (const page of pages) {
      const left = (holders.get(page) ?? holdersOf(state.pages, page)) - 1
      holders.set(page, left)
      if (left === 0) free += 1
    }
    if (isScoring) {
      free -= Math.max(0, own - held + pages.length) - Math.max(0, own - held)
      held -= pages.length
    }
    return true
  }
  const preemptScoring = () => held > own && preempt(scores)
  const running = runningRequests(state)
  for (const request of running) {
    if (request.status.kind !== 'decode' || victims.includes(request)) continue
    const { sequence } = request.status
    if (sequence.inFlight) continue
    const needed = pagesForNext(sequence)
    const younger = running.filter((other) => other.order > request.order)
    while (free < needed && (preemptScoring() || preempt(younger))) continue
    if (free >= needed) free -= needed
  }
  const head = waitingRequests(state).find((request) => startSet(state, request))
  if (head && startSet(state, head) === weights && running.length < policy.maxRunning) {
    const { needed } = admission(state, head, weights)
    while (free < needed + running.length && preemptScoring()) continue
  }
  return victims
}

/** Plans the next step of `weights`; it has neither work nor drops when there is nothing to do. */
export function planStep(state: EngineState, weights: WeightSet, policy: EnginePolicy): PlannedStep {
  const pages = pagesForRequests(state, policy)
  const room: StepRoom = { pages, tokens: policy.stepTokens }
  const decodes = planDecodes(state, weights, room)
  const { prefills, admissions } = planPrefills(state, weights, policy, room)
  const work = [...decodes, ...prefills]
  const scoring = planScoring(state, weights, policy, freePages(state.pages) - (pages - room.pages))
  return {
    weights,
    drops: pendingDrops(state, weights),
    admissions: scoring?.admit ? [...admissions, scoring.work.request] : admissions,
    work: scoring
      ? [...work, scoring.work]
      : addDrafts(work, weights, room.pages, { drafting: state.drafting, policy }),
    quiet: isQuiet(state),
  }
}

/** What a step that is being planned can still take. Planning work reduces it. */
interface StepRoom {
  pages: number
  tokens: number
}

/** Plans the next token of each request that generates. */
function planDecodes(state: EngineState, weights: WeightSet, room: StepRoom): PlannedWork[] {
  const work: PlannedWork[] = []
  for (const request of runningRequests(state)) {
    if (request.status.kind !== 'decode' || pinOf(request) !== weights) continue
    const { sequence } = request.status
    const needed = pagesForNext(sequence)
    if (needed > room.pages) continue
    work.push({ request, from: sequence.fed, to: sequence.fed + 1, output: 'token', shared: [] })
    room.pages -= needed
    room.tokens -= 1
  }
  return work
}

/** Plans parts of prompts, of running requests and of those that are admitted for it, in turn. */
function planPrefills(
  state: EngineState,
  weights: WeightSet,
  policy: EnginePolicy,
  room: StepRoom,
): { prefills: PlannedWork[]; admissions: Request[] } {
  const prefills: PlannedWork[] = []
  const admissions: Request[] = []
  const running = runningRequests(state)
  const feeding = running.filter((request) => request.status.kind === 'prefill' && pinOf(request) === weights)
  const waiting = waitingRequests(state).filter((request) => startSet(state, request))
  const inTurn = [...feeding, ...waiting].toSorted((a, b) => a.turn - b.turn || a.order - b.order)
  /** Keys of pages that running or newly admitted requests are about to fill. */
  const filling = new Set(feeding.flatMap((request) => keysToFill(request, weights, fedOf(request))))
  let admitting = true
  for (const request of inTurn) {
    const sequence = sequenceOf(request)
    const ahead = running.length + admissions.length
    admitting &&=
      sequence !== undefined || (ahead < policy.maxRunning && startSet(state, request) === weights)
    if (!sequence && !admitting) continue
    const { shared, needed } = sequence ? { shared: [], needed: 0 } : admission(state, request, weights)
    const next = sequence ? undefined : nextSharedKey(request, weights, shared.length)
    if (next !== undefined && filling.has(next)) continue
    const from = sequence?.fed ?? shared.length * PAGE_TOKENS
    const to = Math.min(prefillLength(request), nextBoundary(from, policy.prefillChunk))
    if (to - from > room.tokens) break
    if (!sequence) {
      admitting = needed + ahead <= room.pages
      if (!admitting) continue
      admissions.push(request)
      room.pages -= needed
      for (const key of keysToFill(request, weights, from)) filling.add(key)
    }
    prefills.push({ request, from, to, output: prefillOutput(request, to), shared })
    room.tokens -= to - from
  }
  return { prefills, admissions }
}

/** Returns whether a planned step has nothing for the backend. */
export function isIdle(planned: PlannedStep): boolean {
  return planned.work.length === 0 && planned.drops.length === 0
}

/** Returns the weights on which a waiting request starts; null while it has none. */
function startSet(state: EngineState, request: Request): WeightSet | null {
  return pinOf(request) ?? state.active
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
  return Math.max(0, pagesFor(fed + 1) - pages.length)
}

function canPreempt(request: Request): boolean {
  const sequence = sequenceOf(request)
  return sequence !== undefined && !sequence.inFlight
}

function nextBoundary(position: number, chunk: number): number {
  return (Math.floor(position / chunk) + 1) * chunk
}
