/**
 * Drafts: tokens that may follow, looked up in the text so far, so that one step reads the weights once for several
 * tokens of one sequence (speculative decoding, Leviathan et al. 2023). The model samples at every place, and a draft
 * only counts where it is what was sampled: the output is what it would be without drafts.
 */
import type { SampledToken, WeightSet } from '../contract/backend.ts'
import { createDraftLookup, FORCED, MATCH_LENGTHS, type Draft, type Drafter } from './draft-lookup.ts'
import type { EnginePolicy } from './engine-policy.ts'
import { sequenceOf, type Request } from './engine-request.ts'
import { pagesFor } from './page-pool.ts'
import type { PlannedWork } from './planned-step.ts'
import { createStepCosts, type StepCosts } from './step-costs.ts'

/** Weight of the last comparison of a request, and of all requests. */
const REQUEST_RATE = 0.15
const ENGINE_RATE = 0.02
/** Tokens of texts that a step indexes, because more would occupy the event loop. */
const INDEXED_TOKENS = 2048
/** Chances that the first drafts of a new engine are right, by their source. */
const FIRST_CHANCES = [...MATCH_LENGTHS.map(() => 0.5), 0.8]

/** What the engine has learned about drafts. */
export interface Drafting {
  /** By weight set. */
  readonly costs: WeakMap<WeightSet, StepCosts>
  /** Chance that a token of a draft is right, by its source; new requests begin with it. */
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

/** A work, and what may follow its token. */
interface DraftedWork {
  readonly item: PlannedWork
  readonly draft: Draft
  /** Chance that one of its tokens is right if those before it are. */
  readonly chance: number
  /** Most drafts that may be fed, and pages that the sequence has or takes anyway. */
  readonly most: number
  readonly held: number
  count: number
}

/**
 * Adds drafts to a step that only decodes, to its sequences in turn, as long as they gain more than they cost: a further
 * token delays all sequences of the step, and is worth its chance times the time that a sampled token takes.
 *
 * @param free pages that the step may still take
 */
export function addDrafts(
  work: readonly PlannedWork[],
  weights: WeightSet,
  free: number,
  { drafting, policy }: { drafting: Drafting; policy: EnginePolicy },
): readonly PlannedWork[] {
  const room = policy.draftTokens - work.length
  if (room < 1 || !weights.takesDrafts || work.some((item) => !decodes(item))) return work
  const indexed = Math.ceil(INDEXED_TOKENS / work.length)
  const drafted = work.map((item) => draftedWork(item, drafting, room, indexed))
  const candidates = drafted.filter((each) => each !== undefined)
  const costs = costsOf(drafting, weights)
  let expected = work.length
  for (let fed = 0; fed < room; fed++) {
    const cost = costs.costOfOneMore(work.length + fed, expected)
    const [next] = candidates
      .filter((each) => each.count < each.most && pagesOfNext(each) <= free && chanceOfNext(each) > cost)
      .toSorted((a, b) => a.count - b.count || b.chance - a.chance)
    if (!next) break
    free -= pagesOfNext(next)
    expected += chanceOfNext(next)
    next.count += 1
  }
  return work.map((item, index) => {
    const found = drafted[index]
    return found ? { ...item, to: item.to + found.count, draft: found.draft } : item
  })
}

function draftedWork(
  item: PlannedWork,
  drafting: Drafting,
  room: number,
  indexed: number,
): DraftedWork | undefined {
  const { request, to } = item
  if (mayNotDraft(request)) return undefined
  const { lookup, chances } = drafterOf(request, drafting)
  const most = Math.min(room, tokensLeft(request) - 1)
  // One token more than can be fed, to compare it with what is sampled after the last draft.
  const draft = forcedDraft(request) ?? lookup.find(request.tokens, most + 1, indexed)
  return (
    draft && {
      item,
      draft,
      chance: chances[draft.source] as number,
      most: Math.min(most, draft.tokens.length),
      held: Math.max(pagesFor(to), sequenceOf(request)?.pages.length ?? 0),
      count: 0,
    }
  )
}

/** Returns the chance that the next draft of a work is reached and right. */
function chanceOfNext({ chance, count }: DraftedWork): number {
  return chance ** (count + 1)
}

/** Returns how many pages the next draft of a work takes, 0 or 1. */
function pagesOfNext({ item: { to }, count, held }: DraftedWork): number {
  return Number(pagesFor(to + count + 1) > Math.max(held, pagesFor(to + count)))
}

/** Asks the grammar of a request what must follow, if it decodes. */
export async function findForced(request: Request): Promise<void> {
  const { goal, status, tokens, promptTokens } = request
  if (goal.kind !== 'generate' || !goal.constraint || status.kind !== 'decode') return
  const { length } = tokens
  request.forced = { length, tokens: await goal.constraint.forcedAfter(tokens.slice(promptTokens)) }
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
  const { goal, promptTokens } = request
  const prediction = goal.kind === 'generate' ? goal.prediction : undefined
  return (request.drafter ??= { lookup: createDraftLookup(promptTokens, prediction), chances: [...chances] })
}

/** Whether the grammar of a request is too costly now to tell what may follow drafts. */
function mayNotDraft({ forced, tokens }: Request): boolean {
  return forced?.length === tokens.length && forced.tokens === null
}

function forcedDraft({ forced, tokens }: Request): Draft | undefined {
  if (forced?.length !== tokens.length || !forced.tokens?.length) return undefined
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
