/**
 * Drafts: tokens that may follow, looked up in the text so far, so that one step reads the weights once for several
 * tokens of one sequence (speculative decoding, Leviathan et al. 2023). The model samples at every place, and a draft
 * only counts where it is what was sampled: the output is what it would be without drafts.
 */
import { PAGE_TOKENS, type SampledToken, type WeightSet } from '../contract/backend.ts'
import { createDraftLookup, MATCH_LENGTHS, type Draft, type DraftLookup } from './draft-lookup.ts'
import type { EnginePolicy } from './engine-policy.ts'
import { sequenceOf, type Request } from './engine-request.ts'
import { pagesFor } from './page-pool.ts'
import type { PlannedWork } from './planned-step.ts'
import { createStepCosts, type StepCosts } from './step-costs.ts'

/** Weight of the last comparison of a request, and of all requests. */
const REQUEST_RATE = 0.15
const ENGINE_RATE = 0.02
/** Chance that the first draft of a new engine is right. */
const FIRST_CHANCE = 0.5

/** What the engine has learned about drafts. */
export interface Drafting {
  /** By weight set. */
  readonly costs: WeakMap<WeightSet, StepCosts>
  /** Chance that a token of a draft is right, by {@link MATCH_LENGTHS}; new requests begin with it. */
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
  return { costs: new WeakMap(), chances: MATCH_LENGTHS.map(() => FIRST_CHANCE) }
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
    const { lookup, chances } = (request.drafter ??= createDrafter(drafting))
    // One token more than can be fed, to compare it with what is sampled after the last draft.
    const draft = lookup.find(request.tokens, most + 1)
    if (!draft) return item
    const chance = chances[draft.match] as number
    let count = 0
    while (count < most && chance ** (count + 1) > cost) count += 1
    room -= count
    free -= Math.max(0, pagesFor(to + count) - held)
    return { ...item, to: to + count, draft }
  })
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

function move(chances: number[], { match }: Draft, isRight: boolean, rate: number): void {
  const chance = chances[match] as number
  chances[match] = chance + rate * (Number(isRight) - chance)
}

function createDrafter({ chances }: Drafting): Drafter {
  return { lookup: createDraftLookup(), chances: [...chances] }
}

/** Whether a work feeds the last sampled token of a request without a grammar. */
function decodes({ request: { goal, status }, output }: PlannedWork): boolean {
  return output === 'token' && status.kind === 'decode' && goal.kind === 'generate' && !goal.allowedAfter
}

/** Returns how many tokens a request may still generate. */
function tokensLeft({ goal, tokens, promptTokens }: Request): number {
  return goal.kind === 'generate' ? goal.maxNewTokens - (tokens.length - promptTokens) : 0
}
