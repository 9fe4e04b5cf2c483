import { errorBody, type AppError } from '@copal/shared/errors.ts'
import type { ChatCompletion, ChatCompletionChunk, FinishReason } from '@copal/shared/wire/chat.ts'
import type { Completion, CompletionChunk } from '@copal/shared/wire/completions.ts'
import type { Usage } from '@copal/shared/wire/inference-fields.ts'
import type { TokenLogprob } from '../engine/generated-text.ts'
import { chatLogprobs, completionLogprobs, type TokenBytes } from './logprobs.ts'

/** What every object of an answer repeats. */
export interface AnswerHead {
  id: string
  /** Seconds since the epoch. */
  created: number
  model: string
  system_fingerprint: string
}

/** One finished choice. */
export interface WholeChoice {
  text: string
  tokens: TokenLogprob[]
  reason: FinishReason
}

/** An answer in the shape of one API. The methods of streams are called in their order, those of choices interleaved. */
export interface AnswerFormat {
  /** Each server-sent event is named by its object's `type`, and none says `[DONE]`. */
  readonly namesEvents: boolean
  whole(choices: readonly WholeChoice[], usage: Usage): object
  /** What a stream of so many choices begins with before any text. */
  opening(choices: number): object[]
  delta(choice: number, text: string, tokens: TokenLogprob[]): object[]
  /** A choice is finished. */
  closing(choice: number, reason: FinishReason): object[]
  /** All of them are. */
  ending(usage: Usage): object[]
  /** The stream broke off: its last object. */
  failure(error: AppError): object
}

/** How to answer. */
export interface FormatOptions {
  logprobs: boolean
  tokenBytes: TokenBytes
  /** `stream_options.include_usage`: the last object has the usage, and every other `usage: null`, as OpenAI does. */
  withUsage: boolean
  /** The request names a tier, so the answer does. */
  namesTier?: boolean
}

/** `chat.completion` and `chat.completion.chunk`. */
export function chatFormat(
  head: AnswerHead,
  { logprobs, tokenBytes, withUsage, namesTier = false }: FormatOptions,
): AnswerFormat {
  type Choice = ChatCompletionChunk['choices'][number]
  const tier = namesTier ? { service_tier: 'default' as const } : {}
  const described = (tokens: TokenLogprob[]) =>
    logprobs ? { content: chatLogprobs(tokens, tokenBytes), refusal: null } : null
  const chunk = (choices: Choice[]): ChatCompletionChunk => ({
    ...fields(head, 'chat.completion.chunk'),
    ...tier,
    choices,
    ...(withUsage ? { usage: null } : {}),
  })
  const choice = (
    index: number,
    delta: Choice['delta'],
    tokens: TokenLogprob[] | null,
    reason: FinishReason | null,
  ): Choice => ({ index, delta, logprobs: tokens && described(tokens), finish_reason: reason })
  return {
    namesEvents: false,
    whole: (choices, usage): ChatCompletion => ({
      ...fields(head, 'chat.completion'),
      ...tier,
      choices: choices.map(({ text, tokens, reason }, index) => ({
        index,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: described(tokens),
        finish_reason: reason,
      })),
      usage,
    }),
    opening: (choices) =>
      Array.from({ length: choices }, (_, index) =>
        chunk([choice(index, { role: 'assistant', content: '' }, null, null)]),
      ),
    delta: (index, text, tokens) => [chunk([choice(index, { content: text }, tokens, null)])],
    closing: (index, reason) => [chunk([choice(index, {}, null, reason)])],
    ending: (usage) => (withUsage ? [{ ...chunk([]), usage }] : []),
    failure: errorBody,
  }
}

/** `text_completion`, whole and in chunks. */
export function completionFormat(
  head: AnswerHead,
  { logprobs, tokenBytes, withUsage }: FormatOptions,
): AnswerFormat {
  /** Code points of each choice so far. */
  const offsets: number[] = []
  const choice = <Reason>(index: number, text: string, tokens: TokenLogprob[], finish_reason: Reason) => {
    const offset = offsets[index] ?? 0
    const described = logprobs ? completionLogprobs(tokens, tokenBytes, offset) : null
    offsets[index] = described?.offset ?? offset
    return { index, text, logprobs: described?.logprobs ?? null, finish_reason }
  }
  const chunk = (choices: CompletionChunk['choices']): CompletionChunk => ({
    ...fields(head, 'text_completion'),
    choices,
    ...(withUsage ? { usage: null } : {}),
  })
  return {
    namesEvents: false,
    whole: (choices, usage): Completion => ({
      ...fields(head, 'text_completion'),
      choices: choices.map(({ text, tokens, reason }, index) =>
        choice(index, text, tokens, withoutTools(reason)),
      ),
      usage,
    }),
    opening: () => [],
    delta: (index, text, tokens) => [chunk([choice(index, text, tokens, null)])],
    closing: (index, reason) => [chunk([choice(index, '', [], withoutTools(reason))])],
    ending: (usage) => (withUsage ? [{ ...chunk([]), usage }] : []),
    failure: errorBody,
  }
}

/** Only chats call tools. */
function withoutTools(reason: FinishReason): Exclude<FinishReason, 'tool_calls'> {
  return reason === 'length' ? 'length' : 'stop'
}

function fields<T extends string>(head: AnswerHead, object: T) {
  const { id, created, model, system_fingerprint } = head
  return { id, object, created, model, system_fingerprint }
}
