import type { ChatCompletion, ChatCompletionChunk, FinishReason } from '@copal/shared/wire/chat.ts'
import type { Completion } from '@copal/shared/wire/completions.ts'
import type { Usage } from '@copal/shared/wire/generation.ts'
import type { TokenLogprob } from '../engine/answer.ts'
import { chatLogprobs, completionLogprobs } from './logprobs.ts'

/** What every object of an answer repeats. */
export interface AnswerHead {
  id: string
  /** Seconds since the epoch. */
  created: number
  model: string
  system_fingerprint: string
}

/** An answer in the shape of one API. The chunk methods are called in the order of the stream. */
export interface AnswerFormat {
  whole(answer: { text: string; tokens: TokenLogprob[]; reason: FinishReason; usage: Usage }): object
  /** What the stream begins with before any text; nothing in the older API. */
  opening(): object | undefined
  delta(text: string, tokens: TokenLogprob[]): object
  closing(reason: FinishReason): object
  /** The last object when `stream_options.include_usage` asked for it. */
  usage(usage: Usage): object
}

/** How to answer; `withUsage` puts `usage: null` into every chunk but the last, as OpenAI does. */
export interface FormatOptions {
  logprobs: boolean
  withUsage: boolean
}

/** `chat.completion` and `chat.completion.chunk`. */
export function chatFormat(head: AnswerHead, { logprobs, withUsage }: FormatOptions): AnswerFormat {
  type Choice = ChatCompletionChunk['choices'][number]
  const chunk = (choices: Choice[]): ChatCompletionChunk => ({
    ...fields(head, 'chat.completion.chunk'),
    choices,
    ...(withUsage ? { usage: null } : {}),
  })
  const choice = (
    delta: Choice['delta'],
    tokens: TokenLogprob[] | null,
    reason: FinishReason | null,
  ): Choice => ({
    index: 0,
    delta,
    logprobs: logprobs && tokens ? { content: chatLogprobs(tokens), refusal: null } : null,
    finish_reason: reason,
  })
  return {
    whole: ({ text, tokens, reason, usage }): ChatCompletion => ({
      ...fields(head, 'chat.completion'),
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: text, refusal: null },
          logprobs: logprobs ? { content: chatLogprobs(tokens), refusal: null } : null,
          finish_reason: reason,
        },
      ],
      usage,
    }),
    opening: () => chunk([choice({ role: 'assistant', content: '' }, null, null)]),
    delta: (text, tokens) => chunk([choice({ content: text }, tokens, null)]),
    closing: (reason) => chunk([choice({}, null, reason)]),
    usage: (usage): ChatCompletionChunk => ({ ...chunk([]), usage }),
  }
}

/** `text_completion`, whole and in chunks. */
export function completionFormat(head: AnswerHead, { logprobs, withUsage }: FormatOptions): AnswerFormat {
  let offset = 0
  const object = (text: string, tokens: TokenLogprob[], reason: FinishReason | null): Completion => {
    const described = logprobs ? completionLogprobs(tokens, offset) : null
    offset = described?.offset ?? offset
    return {
      ...fields(head, 'text_completion'),
      choices: [{ index: 0, text, logprobs: described?.logprobs ?? null, finish_reason: reason }],
    }
  }
  const chunk = (text: string, tokens: TokenLogprob[], reason: FinishReason | null): Completion => ({
    ...object(text, tokens, reason),
    ...(withUsage ? { usage: null } : {}),
  })
  return {
    whole: ({ text, tokens, reason, usage }): Completion => ({ ...object(text, tokens, reason), usage }),
    opening: () => undefined,
    delta: (text, tokens) => chunk(text, tokens, null),
    closing: (reason) => chunk('', [], reason),
    usage: (usage): Completion => ({ ...fields(head, 'text_completion'), choices: [], usage }),
  }
}

function fields<T extends string>(head: AnswerHead, object: T) {
  const { id, created, model, system_fingerprint } = head
  return { id, object, created, model, system_fingerprint }
}
