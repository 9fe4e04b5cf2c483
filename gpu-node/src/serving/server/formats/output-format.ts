import { errorBody, type AppError } from '@copal/shared/errors.ts'
import type { ChatCompletion, ChatCompletionChunk, FinishReason } from '@copal/shared/wire/chat.ts'
import type { Completion, CompletionChunk } from '@copal/shared/wire/completions.ts'
import type { Usage } from '@copal/shared/wire/inference-fields.ts'
import type { TokenLogprob } from '../../engine/generated-text.ts'
import type { TokenScores } from '../../contract/backend.ts'
import { asWritten, LongObject } from './as-written.ts'
import { echoPrompt, type EchoedPrompt, type PromptEcho } from './echoed-prompt.ts'
import {
  chatLogprobs,
  completionLogprobs,
  countCharacters,
  type CompletionTokens,
  type TokenBytes,
} from './logprobs.ts'

/** The fields that every object of a response repeats. */
export interface OutputHead {
  id: string
  /** Seconds since the epoch. */
  created: number
  model: string
  system_fingerprint: string
}

/** A finished choice. */
export interface FinishedChoice {
  text: string
  tokens: TokenLogprob[]
  reason: FinishReason
  /** Scores of the tokens of its prompt, if they were requested. */
  promptScores?: TokenScores | undefined
}

/**
 * The response format of one API. A response that is not streamed uses `body`. A stream uses `start`, `echo`, `delta`,
 * `endChoice` and `end` in this order, with the calls of different choices interleaved.
 */
export interface OutputFormat {
  /** Each server-sent event is named by its object's `type`, and no `[DONE]` ends the stream. */
  readonly namesEvents: boolean
  body(choices: readonly FinishedChoice[], usage: Usage): object
  /** Returns the first objects of a stream with this number of choices, before any text. */
  start(choices: number): object[]
  /** Returns the objects that repeat the prompt of a choice; absent where no prompt is repeated. */
  echo?(choice: number, promptScores: TokenScores | undefined): object[]
  delta(choice: number, text: string, tokens: TokenLogprob[]): object[]
  /** Returns the objects that end one choice. */
  endChoice(choice: number, reason: FinishReason): object[]
  /** Returns the objects that end the stream, after all choices. */
  end(usage: Usage): object[]
  /** Returns the last object of a stream that failed. */
  error(error: AppError): object
}

/** Options of a format. */
export interface FormatOptions {
  logprobs: boolean
  tokenBytes: TokenBytes
  /** `stream_options.include_usage`: the last object carries the usage, every other `usage: null`, as OpenAI does. */
  withUsage: boolean
  /** The request names a service tier, so the response does too. */
  namesTier?: boolean
}

/** Formats `chat.completion` and `chat.completion.chunk`. */
export function chatFormat(
  head: OutputHead,
  { logprobs, tokenBytes, withUsage, namesTier = false }: FormatOptions,
): OutputFormat {
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
    body: (choices, usage): ChatCompletion => ({
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
    start: (choices) =>
      Array.from({ length: choices }, (_, index) =>
        chunk([choice(index, { role: 'assistant', content: '' }, null, null)]),
      ),
    delta: (index, text, tokens) => [chunk([choice(index, { content: text }, tokens, null)])],
    endChoice: (index, reason) => [chunk([choice(index, {}, null, reason)])],
    end: (usage) => (withUsage ? [{ ...chunk([]), usage }] : []),
    error: errorBody,
  }
}

/** Formats `text_completion`, in one piece and in chunks; with `echo`, each choice begins with its prompt. */
export function completionFormat(
  head: OutputHead,
  { logprobs, tokenBytes, withUsage, echo }: FormatOptions & { echo?: PromptEcho | undefined },
): OutputFormat {
  /** Code points of each choice written so far. */
  const offsets: number[] = []
  const choice = <Reason>(index: number, text: string, tokens: TokenLogprob[], finish_reason: Reason) => {
    const offset = offsets[index] ?? 0
    if (!logprobs) return { index, text, logprobs: null, finish_reason }
    offsets[index] = tokens.reduce((at, { token }) => at + countCharacters(tokenBytes(token)), offset)
    return { index, text, logprobs: completionLogprobs(tokens, tokenBytes, offset), finish_reason }
  }
  const echoOf = (index: number, scores: TokenScores | undefined): EchoedPrompt => {
    const prompt = echo?.(index)
    return prompt ? echoPrompt(prompt, scores, tokenBytes) : { text: '', tokens: [], offset: 0, endOffset: 0 }
  }
  const chunk = (choices: CompletionChunk['choices']): CompletionChunk => ({
    ...fields(head, 'text_completion'),
    choices,
    ...(withUsage ? { usage: null } : {}),
  })
  return {
    namesEvents: false,
    body: (choices, usage): Completion => ({
      ...fields(head, 'text_completion'),
      choices: choices.map(({ text, tokens, reason, promptScores }, index) => {
        // A prompt is repeated when it is written, because there may be hundreds of long ones.
        const described = () => {
          const prompt = echoOf(index, promptScores)
          return completionLogprobs(joined(prompt.tokens, tokens), tokenBytes, prompt.offset)
        }
        return {
          index,
          text: echo ? asWritten(() => echoOf(index, undefined).text + text) : text,
          logprobs: logprobs ? asWritten(described) : null,
          finish_reason: withoutTools(reason),
        }
      }),
      usage,
    }),
    start: () => [],
    ...(echo
      ? {
          echo(index, scores) {
            const { text, tokens, offset, endOffset } = echoOf(index, scores)
            offsets[index] = endOffset
            const described = logprobs ? completionLogprobs(tokens, tokenBytes, offset) : null
            return [new LongObject(chunk([{ index, text, logprobs: described, finish_reason: null }]))]
          },
        }
      : {}),
    delta: (index, text, tokens) => [chunk([choice(index, text, tokens, null)])],
    endChoice: (index, reason) => [chunk([choice(index, '', [], withoutTools(reason))])],
    end: (usage) => (withUsage ? [{ ...chunk([]), usage }] : []),
    error: errorBody,
  }
}

/** Returns the tokens of a prompt, then those generated. */
function joined(prompt: CompletionTokens, generated: readonly TokenLogprob[]): CompletionTokens {
  const { length } = prompt
  return {
    length: length + generated.length,
    at: (index) => (index < length ? prompt.at(index) : generated[index - length]),
  }
}

/** Maps a finish reason to those of completions, which never call tools. */
function withoutTools(reason: FinishReason): Exclude<FinishReason, 'tool_calls'> {
  return reason === 'length' ? 'length' : 'stop'
}

function fields<T extends string>(head: OutputHead, object: T) {
  const { id, created, model, system_fingerprint } = head
  return { id, object, created, model, system_fingerprint }
}
