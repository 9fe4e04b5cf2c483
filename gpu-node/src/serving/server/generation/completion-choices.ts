import type { WeightSet } from '../../contract/backend.ts'
import type { Engine } from '../../engine/engine-api.ts'
import type { NamedPrefix } from '../../engine/prefix-names.ts'
import type { TokenConstraint } from '../../contract/token-constraint.ts'
import type {
  GenerateEvent,
  GenerateRequest,
  Generation,
  GenerationOutcome,
} from '../../engine/generation-request.ts'
import { philox } from '../../sampling/random-draw.ts'

/** The choices that one call generates: the same number for each of its prompts. */
export interface ChoicesPlan extends Pick<
  GenerateRequest,
  'maxTokens' | 'sampling' | 'stops' | 'promptLogprobs' | 'prediction'
> {
  prompts: readonly (readonly number[])[]
  choicesPerPrompt: number
  /** Named prefixes of the first prompt. */
  prefixes?: readonly NamedPrefix[] | undefined
  /** Creates the grammar constraint of one choice; undefined for unconstrained output. */
  constrain?: (() => TokenConstraint) | undefined
}

/** An event of one choice. Choices are numbered prompt by prompt. */
export interface ChoiceEvent {
  choice: number
  event: GenerateEvent
}

/** The running choices of one call. */
export interface Choices {
  readonly count: number
  /** The outcome of each choice, and the index of the prompt that it continues. */
  readonly parts: readonly { prompt: number; outcome: Promise<GenerationOutcome> }[]
  /** The events of all choices. May be iterated once; throws when one choice fails, which cancels the others. */
  readonly events: AsyncGenerator<ChoiceEvent, void, undefined>
  /** The outcome of all choices combined into one; never rejects. */
  readonly outcome: Promise<GenerationOutcome>
}

/**
 * Starts the choices of one call. They form one response, so several choices must share the `weights` passed here. They
 * also share the computed pages of their prompt; without a partition only among themselves. Each choice has its own
 * seed, derived from the seed of the call. The first choice uses the call's seed itself, so that a single choice equals
 * the first of several.
 *
 * @param abort ends all choices; also aborted here when one fails
 * @throws AppError as `Engine.generate` does; then all choices are cancelled
 */
export function startChoices(
  engine: Pick<Engine, 'generate'>,
  plan: ChoicesPlan,
  common: Pick<GenerateRequest, 'id' | 'restartable' | 'partition' | 'deadlineMs'> & {
    weights: WeightSet | null
  },
  abort: AbortController,
): Choices {
  const { prompts, choicesPerPrompt, sampling, constrain, prefixes, ...rest } = plan
  const choicePrompts = prompts.flatMap((prompt) => Array.from({ length: choicesPerPrompt }, () => prompt))
  const promptOf = (choice: number) => Math.floor(choice / choicesPerPrompt)
  const { signal } = abort
  // Partitions of callers never begin with NUL.
  const partition = common.partition ?? (choicePrompts.length > 1 ? `\0${common.id}` : undefined)
  const generations: Generation[] = []
  try {
    for (const [choice, prompt] of choicePrompts.entries()) {
      const seed = seedOf(sampling.seed, choice)
      const part = promptOf(choice)
      const spec = { ...common, part, ...rest, partition, sampling: { ...sampling, seed }, prompt, signal }
      const named = choice === 0 ? { prefixes } : {}
      generations.push(engine.generate({ ...spec, ...named, constraint: constrain?.() }))
    }
  } catch (error) {
    abort.abort()
    throw error
  }
  return {
    count: generations.length,
    parts: generations.map(({ outcome }, choice) => ({ prompt: promptOf(choice), outcome })),
    events: mergeEvents(
      generations.map(({ events }) => events),
      () => abort.abort(),
    ),
    outcome: Promise.all(generations.map(({ outcome }) => outcome)).then((outcomes) =>
      combineOutcomes(outcomes, choicesPerPrompt),
    ),
  }
}

/** Returns the seed of a choice: the call's seed for the first, derived from it and the index for the others. */
function seedOf(seed: number, choice: number): number {
  return choice === 0 ? seed : philox([choice, 0, 0, 1], [seed >>> 0, 0])[0]
}

/** The result of reading a choice: its next event, its end, or its failure. */
type Read = { choice: number } & ({ result: IteratorResult<GenerateEvent> } | { error: unknown })

/**
 * Yields the events of all choices as they arrive. Calls `onAbandon` when the consumer stops early or a choice fails.
 *
 * Reads are queued and not raced: a choice that waits would keep a part of each race that others win.
 */
async function* mergeEvents(
  sources: readonly AsyncIterable<GenerateEvent>[],
  onAbandon: () => void,
): AsyncGenerator<ChoiceEvent, void, undefined> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]())
  const arrived: Read[] = []
  let wake = () => {}
  const add = (read: Read) => {
    arrived.push(read)
    wake()
  }
  const readNext = (choice: number) =>
    void iterators[choice]!.next().then(
      (result) => add({ choice, result }),
      (error: unknown) => add({ choice, error }),
    )
  let open = iterators.length
  for (const choice of iterators.keys()) readNext(choice)
  let isComplete = false
  try {
    while (open > 0) {
      const read = arrived.shift()
      if (!read) await new Promise<void>((resolve) => (wake = resolve))
      else if ('error' in read) throw read.error
      else if (read.result.done) open -= 1
      else {
        readNext(read.choice)
        yield { choice: read.choice, event: read.result.value }
      }
    }
    isComplete = true
  } finally {
    if (!isComplete) onAbandon()
    // Frees the events that were not read.
    for (const iterator of iterators) iterator.return?.().catch(() => undefined)
  }
}

/**
 * Combines the outcomes of choices into that of one request. Each prompt is counted once, however many choices continue
 * it, and the worst finish reason is that of the request.
 */
export function combineOutcomes(
  outcomes: readonly GenerationOutcome[],
  choicesPerPrompt: number,
): GenerationOutcome {
  const worstFirst = ['error', 'refused', 'cancelled', 'length', 'stop'] as const
  const finishReason =
    worstFirst.find((reason) => outcomes.some((outcome) => outcome.finishReason === reason)) ?? 'error'
  const earliest = (moment: 'startedMs' | 'firstTokenMs') => {
    const moments = outcomes.flatMap(({ times }) => times[moment] ?? [])
    return moments.length > 0 ? Math.min(...moments) : null
  }
  let promptTokens = 0
  let cachedTokens = 0
  for (let first = 0; first < outcomes.length; first += choicesPerPrompt) {
    const ofPrompt = outcomes.slice(first, first + choicesPerPrompt)
    promptTokens += Math.max(...ofPrompt.map((outcome) => outcome.promptTokens))
    // The choice that shared least computed the pages that the others share.
    cachedTokens += Math.min(...ofPrompt.map((outcome) => outcome.cachedTokens))
  }
  return {
    finishReason,
    weights: outcomes.find(({ weights }) => weights)?.weights ?? null,
    promptTokens,
    cachedTokens,
    completionTokens: outcomes.reduce((sum, outcome) => sum + outcome.completionTokens, 0),
    text: outcomes[0]?.text ?? { tokens: [], promptTokens: 0 },
    times: {
      arrivedMs: Math.min(...outcomes.map(({ times }) => times.arrivedMs)),
      startedMs: earliest('startedMs'),
      firstTokenMs: earliest('firstTokenMs'),
      endedMs: Math.max(...outcomes.map(({ times }) => times.endedMs)),
    },
    error: outcomes.find((outcome) => outcome.finishReason === finishReason)?.error ?? null,
  }
}
