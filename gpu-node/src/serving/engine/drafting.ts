/**
 * Drafts: tokens that may follow, looked up in the text so far, so that one step reads the weights once for several
 * tokens of one sequence (speculative decoding, Leviathan et al. 2023). The model samples at every place, and a draft
 * only counts where it is what was sampled: the output is what it would be without drafts.
 */
import { PAGE_TOKENS, type SampledToken, type WeightSet } from '../contract/backend.ts'
import { createDraftLookup, FORCED, MATCH_LENGTHS, type Draft, type DraftLookup } from './draft-lookup.ts'
import type { EnginePolicy } from './engine-policy.ts'
import { sequenceOf, type Request } from './engine-request.ts'
import { pagesFor } from './page-pool.ts'
import type { PlannedWork } from './planned-step.ts'
import { createStepCosts, type StepCosts } from './step-costs.ts'

/** Weight of the last comparison of a request, and of all requests. */
const REQUEST_RATE = 0.15
const ENGINE_RATE = 0.02
/** Chances that the first drafts of a new engine are right, by their source. */
const FIRST_CHANCES = [...MATCH_LENGTHS.map(() => 0.5), 0.8]

/** What the engine has learned about drafts. */
export interface Drafting {
  /** By weight set. */
  readonly costs: WeakMap<WeightSet, StepCosts>
  /** Chance that a token of a draft is right, by its source; new requests begin with it. */
  readonly chances: number[]
}

/** What a request has for its drafts. */
export interface Drafter {
  readonly lookup: DraftLookup
  /** As {@link Drafting.chances}, of its own text. */
  readonly chances: number[]
}

/** Creates the record of an engine that has drafted nothing. */
export function createDrafting(): Drafting {
  return { costs: new WeakMap(), chances: [...FIRST_CHANCES] }
}

/** Returns what steps of a weight set cost. */
export function costsOf({ costs }: Drafting, weights: WeightSet): StepCosts {
  let known = costs.get(weights)
  if (!known) costs.set(weights, (known = createStepCosts()))
  return known
}

/**
 * Adds drafts to a step that only decodes, as long as they gain more than they cost: a further token delays all
 * sequences of the step, and is worth its chance times the time a token.
 *
 * @param free pages that the step may still take
 */
export function addDrafts(
  work: readonly PlannedWork[],
  weights: WeightSet,
  free: number,
  { drafting, policy }: { drafting: Drafting; policy: EnginePolicy },
): readonly PlannedWork[] {
  let room = policy.draftTokens - work.length
  if (room < 1 || !weights.takesDrafts || work.some((item) => !decodes(item))) return work
  const cost = costsOf(drafting, weights).costOfOneMore(work.length)
  return work.map((item, index) => {
    const { request, to } = item
    const held = Math.max(pagesFor(to), sequenceOf(request)?.pages.length ?? 0)
    const most = Math.min(
      Math.ceil(room / (work.length - index)),
      (held + free) * PAGE_TOKENS - to,
      tokensLeft(request) - 1,
    )
    // One token more than can be fed, to compare it with what is sampled after the last draft.
    const draft = forcedDraft(request) ?? drafterOf(request, drafting).lookup.find(request.tokens, most + 1)
    if (!draft) return item
    const chance = drafterOf(request, drafting).chances[draft.source] as number
    let count = 0
    while (count < Math.min(most, draft.tokens.length) && chance ** (count + 1) > cost) count += 1
    room -= count
    free -= Math.max(0, pagesFor(to + count) - held)
    return { ...item, to: to + count, draft }
  })
}

/** Asks the grammar of a request what must follow, if it decodes. */
export async function findForced(request: Request): Promise<void> {
  const { goal, status, tokens, promptTokens } = request
  if (goal.kind !== 'generate' || !goal.constraint || status.kind !== 'decode') return
  const { length } = tokens
  const forced = await goal.constraint.forcedAfter(tokens.slice(promptTokens))
  request.forced = { length, tokens: forced ?? [] }
}

/** Returns the drafts that a work feeds, from the token after its first one on. */
export function draftsOf({ from, to, draft }: PlannedWork): readonly number[] {
  return draft ? draft.tokens.slice(0, to - from - 1) : []
}

/** Learns from the tokens that were sampled in a work, as far as its draft said what they would be. */
export function learnFromDraft(
  { request: { drafter }, draft }: PlannedWork,
  sampled: readonly SampledToken[],
  { chances }: Drafting,
): void {
  if (!draft || !drafter) return
  for (const [index, { token }] of sampled.entries()) {
    if (index >= draft.tokens.length) return
    const isRight = draft.tokens[index] === token
    move(drafter.chances, draft, isRight, REQUEST_RATE)
    move(chances, draft, isRight, ENGINE_RATE)
    if (!isRight) return
  }
}

function move(chances: number[], { source }: Draft, isRight: boolean, rate: number): void {
  const chance = chances[source] as number
  chances[source] = chance + rate * (Number(isRight) - chance)
}

function drafterOf(request: Request, { chances }: Drafting): Drafter {
  const { goal, tokens, promptTokens } = request
  const prediction = goal.kind === 'generate' ? goal.prediction : undefined
  return (request.drafter ??= {
    lookup: createDraftLookup(tokens.slice(0, promptTokens), prediction),
    chances: [...chances],
  })
}

function forcedDraft({ forced, tokens }: Request): Draft | undefined {
  if (forced?.length !== tokens.length || forced.tokens.length === 0) return undefined
  return { tokens: forced.tokens, source: FORCED }
}

/** Whether a work feeds the last sampled token of a request. */
function decodes({ request: { status }, output }: PlannedWork): boolean {
  return output === 'token' && status.kind === 'decode'
}

/** Returns how many tokens a request may still generate. */
function tokensLeft({ goal, tokens, promptTokens }: Request): number {
  return goal.kind === 'generate' ? goal.maxNewTokens - (tokens.length - promptTokens) : 0
}
