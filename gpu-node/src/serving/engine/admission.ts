/** Admits requests: rejects those that cannot be served and adds the others to the scheduler's state. */
import { AppError, toAppError } from '@copal/shared/errors.ts'
import type { WeightSet } from '../contract/backend.ts'
import { createTokenScores } from '../contract/token-scores.ts'
import { createGeneratedText } from './generated-text.ts'
import type { Engine, EngineDeps } from './engine-api.ts'
import type { Embedding } from './embedding-request.ts'
import { createEventQueues } from './event-queue.ts'
import type { GenerateEvent, GenerateRequest } from './generation-request.ts'
import type { RequestTracker } from './request-tracker.ts'
import type { EnginePolicy } from './engine-policy.ts'
import { checkBiases, checkTokens, contextExceeded, overloaded, textTooLong } from './request-errors.ts'
import { cancelled } from '../../platform/unless-aborted.ts'
import type { GenerateGoal, Goal, Request, ScoreGoal } from './engine-request.ts'
import { createEmbeddingOutput, createGenerationOutput } from './output-handlers.ts'
import { waitingRequests, type EngineState } from './engine-state.ts'

/** Parts that admission needs from the engine. */
export interface AdmissionDeps extends Pick<EngineDeps, 'config' | 'codec'> {
  policy: EnginePolicy
  state: EngineState
  tracker: RequestTracker
  nowMs: () => number
  /** @throws AppError when the engine is closed */
  checkOpen: () => void
  /** Adds a request to the state, pinned to a weight set, or (`null`) to run on the set that is active when it starts. */
  accept: (goal: Goal, tokens: readonly number[], pin: WeightSet | null) => Request
}

/** Creates the methods of an engine that start requests. */
export function createAdmission(
  deps: AdmissionDeps,
): Pick<Engine, 'generate' | 'embed' | 'score' | 'describe'> {
  const { config, codec, policy, state, tracker, nowMs, checkOpen, accept } = deps
  const queues = createEventQueues<GenerateEvent>(policy.maxUnread)
  const endTokens = new Set(config.eosTokenIds)

  /** Estimates the time until all present requests are done, from the mean duration of finished ones. */
  const backlogMs = () => (tracker.meanRequestMs * state.requests.length) / policy.maxRunning

  function checkQueueLength(): void {
    if (waitingRequests(state).length >= policy.maxWaiting)
      throw overloaded('requests waiting', policy.maxWaiting, backlogMs())
  }

  async function runScore(
    { weights, tokens, signal }: Parameters<Engine['describe']>[0],
    goal: ScoreGoal,
  ): Promise<void> {
    if (tokens.length > policy.contextLength) throw textTooLong(tokens.length, policy.contextLength)
    if (tracker.pendingScores >= policy.maxScores)
      throw overloaded('texts to score', policy.maxScores, backlogMs())
    if (signal?.aborted) throw cancelled()
    await tracker.trackScore(accept(goal, tokens, weights), signal)
  }

  function goalOf(
    spec: GenerateRequest,
    maxNewTokens: number,
    fail: (error: AppError) => void,
  ): GenerateGoal {
    const { constraint, promptLogprobs = -1 } = spec
    const orFail = (thrown: unknown): null => {
      fail(toAppError(thrown))
      return null
    }
    return {
      kind: 'generate',
      sampler: { ...spec.sampling, promptTokens: spec.prompt.length },
      maxNewTokens,
      restartable: spec.restartable && !spec.weights,
      partition: promptLogprobs >= 0 ? null : (spec.partition ?? null),
      prefixes: spec.prefixes ?? [],
      prediction: spec.prediction?.slice(0, policy.contextLength),
      promptScores:
        promptLogprobs >= 0 ? createTokenScores(spec.prompt.length - 1, promptLogprobs) : undefined,
      constraint: constraint && {
        allowedAfter: (generated, drafts) => constraint.allowedAfter(generated, drafts).catch(orFail),
        forcedAfter: (generated) => constraint.forcedAfter(generated).catch(orFail),
      },
    }
  }

  return {
    generate(spec) {
      checkOpen()
      checkTokens(spec.prompt, config.vocabSize, 'prompt')
      checkBiases(spec.sampling.logitBias ?? [], config.vocabSize)
      const readsOnly = spec.maxTokens === 0
      const room = policy.contextLength - spec.prompt.length
      if (readsOnly && room < 0) throw textTooLong(spec.prompt.length, policy.contextLength)
      if (!readsOnly && room < 1) throw contextExceeded(spec.prompt.length, policy.contextLength)
      checkQueueLength()
      const maxNewTokens = Math.min(spec.maxTokens ?? room, room)
      const newText = () =>
        createGeneratedText({
          codec,
          endTokens,
          stops: spec.stops,
          maxNewTokens,
          logprobs: spec.sampling.topLogprobs >= 0,
          reportsEnd: goal.promptScores !== undefined,
        })
      const arrivedMs = nowMs()
      const goal = goalOf(spec, maxNewTokens, (error) => tracker.fail(request, error))
      const request: Request = accept(goal, spec.prompt, spec.weights ?? null)
      const queue = queues.open(() => tracker.fail(request, cancelled()))
      const outcome = tracker.track(
        request,
        spec,
        arrivedMs,
        createGenerationOutput(queue, newText, {
          constraint: spec.constraint,
          promptScores: goal.promptScores,
          readsOnly,
        }),
      )
      return { events: queue.events, outcome }
    },

    embed(spec) {
      checkOpen()
      checkTokens(spec.tokens, config.vocabSize, 'tokens')
      if (spec.tokens.length > policy.contextLength)
        throw textTooLong(spec.tokens.length, policy.contextLength)
      if (!spec.takesPlace) checkQueueLength()
      const arrivedMs = nowMs()
      const goal = {
        kind: 'embed' as const,
        sum: new Float64Array(config.hiddenSize),
        restartable: !spec.weights,
      }
      const result = Promise.withResolvers<Embedding>()
      // A caller that awaits only the outcome gets the error there.
      result.promise.catch(() => undefined)
      const request = accept(goal, spec.tokens, spec.weights ?? null)
      const outcome = tracker.track(request, spec, arrivedMs, createEmbeddingOutput(goal, result))
      return { embedding: result.promise, outcome }
    },

    async score(spec) {
      const { tokens, lane, first = 1 } = spec
      checkOpen()
      checkTokens(tokens, config.vocabSize, 'tokens')
      if (tokens.length < 2)
        throw new AppError('invalid_request', 'Scoring a text needs at least two tokens.')
      if (!(Number.isInteger(first) && first >= 1 && first < tokens.length))
        throw new AppError('invalid_request', `Token ${first} of ${tokens.length} cannot be scored first.`)
      const nll = new Float32Array(tokens.length - first)
      await runScore(spec, { kind: 'score', lane, first, nll, sum: null })
      return nll
    },

    async describe(spec) {
      const { tokens, lane } = spec
      checkOpen()
      checkTokens(tokens, config.vocabSize, 'tokens')
      const sum = new Float64Array(config.hiddenSize)
      const nll = new Float32Array(tokens.length - 1)
      await runScore(spec, { kind: 'score', lane, first: 1, nll, sum })
      return { embedding: Float32Array.from(sum, (value) => value / tokens.length), nll }
    },
  }
}
