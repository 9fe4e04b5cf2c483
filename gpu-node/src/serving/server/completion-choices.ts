import type { WeightSet } from '../contract/backend.ts'
import type { Engine } from '../engine/engine-api.ts'
import type { NamedPrefix } from '../engine/prefix-names.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'
import type {
  GenerateEvent,
  GenerateRequest,
  Generation,
  GenerationOutcome,
} from '../engine/generation-request.ts'
import { philox } from '../sampling/random-draw.ts'

/** What one call generates: the same number of choices for each of its prompts. */
export interface ChoicesPlan extends Pick<GenerateRequest, 'maxTokens' | 'sampling' | 'stops'> {
  prompts: readonly (readonly number[])[]
  choicesPerPrompt: number
  /** Named prefixes of the first prompt. */
  prefixes?: readonly NamedPrefix[] | undefined
  /** Makes what keeps one choice to a grammar; undefined where there is none. */
  constrain?: (() => TokenConstraint) | undefined
}

/** What one of the choices hears; they are numbered prompt by prompt. */
export interface ChoiceEvent {
  choice: number
  event: GenerateEvent
}

/** The choices of one call under way. */
export interface Choices {
  readonly count: number
  /** Each of them, and which prompt it continues. */
  readonly parts: readonly { prompt: number; outcome: Promise<GenerationOutcome> }[]
  /** May be iterated once. When one choice fails the others are cancelled, and this throws. */
  readonly events: AsyncGenerator<ChoiceEvent, void, undefined>
  /** Of all of them together, as one request; never rejects. */
  readonly outcome: Promise<GenerationOutcome>
}

/**
 * Starts the choices of one call. They are one answer, so several must be given the `weights` that make all of them.
 * They share what one of them has computed of their prompt, whoever asks: without a partition within this call alone.
 * Each has a seed of its own that follows from the call's; the first has the call's itself, so that one choice is the
 * same alone and as the first of several.
 *
 * @param abort ends all of them; aborted here too, when one fails
 * @throws AppError like `Engine.generate`, then none goes on
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
  const specs = prompts.flatMap((prompt) => Array.from({ length: choicesPerPrompt }, () => prompt))
  const promptOf = (choice: number) => Math.floor(choice / choicesPerPrompt)
  const { signal } = abort
  // No partition of a caller's is called so.
  const partition = common.partition ?? (specs.length > 1 ? `\0${common.id}` : undefined)
  const generations: Generation[] = []
  try {
    for (const [choice, prompt] of specs.entries()) {
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
    events: merge(
      generations.map(({ events }) => events),
      () => abort.abort(),
    ),
    outcome: Promise.all(generations.map(({ outcome }) => outcome)).then((outcomes) =>
      together(outcomes, choicesPerPrompt),
    ),
  }
}

/** The seed of a choice: the call's own for the first, for others drawn from it by their number. */
function seedOf(seed: number, choice: number): number {
  return choice === 0 ? seed : philox([choice, 0, 0, 1], [seed >>> 0, 0])[0]
}

/** Events of all choices as they come. `onLeave` is told when not all of them are read to the end. */
async function* merge(
  sources: readonly AsyncIterable<GenerateEvent>[],
  onLeave: () => void,
): AsyncGenerator<ChoiceEvent, void, undefined> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]())
  const take = async (choice: number) => ({ choice, result: await iterators[choice]!.next() })
  const next = (choice: number) => {
    const taken = take(choice)
    // Whoever left awaits nothing any more, not even an error.
    taken.catch(() => undefined)
    return taken
  }
  const pending = new Map(iterators.map((_, choice) => [choice, next(choice)]))
  let isWhole = false
  try {
    while (pending.size > 0) {
      const { choice, result } = await Promise.race(pending.values())
      if (result.done) pending.delete(choice)
      else {
        pending.set(choice, next(choice))
        yield { choice, event: result.value }
      }
    }
    isWhole = true
  } finally {
    if (!isWhole) onLeave()
    // What they keep for nobody goes.
    for (const iterator of iterators) iterator.return?.().catch(() => undefined)
  }
}

/** Choices as one request: a prompt is counted once, whatever is made of it, and the worst ending is the request's. */
export function together(
  outcomes: readonly GenerationOutcome[],
  choicesPerPrompt: number,
): GenerationOutcome {
  const endings = ['error', 'refused', 'cancelled', 'length', 'stop'] as const
  const finishReason =
    endings.find((ending) => outcomes.some((one) => one.finishReason === ending)) ?? 'error'
  const started = (moment: 'startedMs' | 'firstTokenMs') => {
    const moments = outcomes.flatMap(({ times }) => times[moment] ?? [])
    return moments.length > 0 ? Math.min(...moments) : null
  }
  let promptTokens = 0
  let cachedTokens = 0
  for (let first = 0; first < outcomes.length; first += choicesPerPrompt) {
    const ofPrompt = outcomes.slice(first, first + choicesPerPrompt)
    promptTokens += Math.max(...ofPrompt.map((outcome) => outcome.promptTokens))
    // What one choice computed, another may have shared.
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
      startedMs: started('startedMs'),
      firstTokenMs: started('firstTokenMs'),
      endedMs: Math.max(...outcomes.map(({ times }) => times.endedMs)),
    },
    error: outcomes.find((one) => one.finishReason === finishReason)?.error ?? null,
  }
}
