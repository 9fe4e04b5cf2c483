import type { ChatCompletion, ChatCompletionChunk, FinishReason } from '@copal/shared/wire/chat.ts'
import type { ToolCall, ToolCallDelta } from '@copal/shared/wire/tools.ts'
import type { TokenLogprob } from '../engine/generated-text.ts'
import type { AnswerFormat, WholeChoice } from './output-format.ts'
import { newCallId } from './tool-call-id.ts'
import type { TokenBytes } from './logprobs.ts'
import { createToolCallReader, type AnswerPiece, type ToolCallReader } from './tool-call-reader.ts'

/** A choice that is being streamed. */
interface Streamed {
  reader: ToolCallReader
  /** Of content that is held back. */
  tokens: TokenLogprob[]
}

/**
 * `chat.completion` and its chunks of answers that may call tools: what is text goes out as content, and calls as
 * `tool_calls`. Log-probabilities are of the content's tokens alone.
 *
 * @param chat the format of chats without tools, which this one changes
 */
export function toolFormat(chat: AnswerFormat, tokenBytes: TokenBytes): AnswerFormat {
  const streamed = new Map<number, Streamed>()
  const stateOf = (choice: number): Streamed => {
    const known = streamed.get(choice)
    if (known) return known
    const made = { reader: createToolCallReader(), tokens: [] }
    streamed.set(choice, made)
    return made
  }
  /** A chunk as of text, with another delta. */
  const chunkWith = (choice: number, delta: ChatCompletionChunk['choices'][number]['delta']) =>
    (chat.delta(choice, '', []) as ChatCompletionChunk[]).map((chunk) => ({
      ...chunk,
      choices: chunk.choices.map((each) => ({ ...each, delta, logprobs: null })),
    }))
  const callChunk = (choice: number, call: ToolCallDelta) => chunkWith(choice, { tool_calls: [call] })
  const chunksOf = (choice: number, pieces: readonly AnswerPiece[]): object[] => {
    const state = stateOf(choice)
    return pieces.flatMap((piece) => {
      if (piece.kind === 'content') return chat.delta(choice, piece.text, state.tokens.splice(0))
      if (piece.kind === 'arguments')
        return callChunk(choice, { index: piece.call, function: { arguments: piece.text } })
      return callChunk(choice, {
        index: piece.call,
        id: newCallId(),
        type: 'function',
        function: { name: piece.name, arguments: '' },
      })
    })
  }

  return {
    ...chat,
    whole(choices, usage) {
      const read = choices.map((choice) => readChoice(choice, tokenBytes))
      const answer = chat.whole(
        read.map(({ choice }) => choice),
        usage,
      ) as ChatCompletion
      return {
        ...answer,
        choices: answer.choices.map((choice, index) => {
          const calls = read[index]?.calls ?? []
          if (calls.length === 0) return choice
          const content = choice.message.content === '' ? null : choice.message.content
          return { ...choice, message: { ...choice.message, content, tool_calls: calls } }
        }),
      } satisfies ChatCompletion
    },
    opening: (choices) =>
      Array.from({ length: choices }, (_, choice) =>
        chunkWith(choice, { role: 'assistant', content: null }),
      ).flat(),
    delta(choice, text, tokens) {
      const state = stateOf(choice)
      const wasContent = state.reader.inContent
      const pieces = state.reader.push(text)
      if (wasContent && state.reader.inContent) state.tokens.push(...tokens)
      const chunks = chunksOf(choice, pieces)
      if (!state.reader.inContent) state.tokens = []
      return chunks
    },
    closing(choice, reason) {
      const { reader } = stateOf(choice)
      const rest = chunksOf(choice, reader.end())
      return [...rest, ...chat.closing(choice, endOf(reason, reader.calls))]
    },
  }
}

function readChoice(
  { text, tokens, reason }: WholeChoice,
  tokenBytes: TokenBytes,
): { choice: WholeChoice; calls: ToolCall[] } {
  const reader = createToolCallReader()
  let content = ''
  const calls: ToolCall[] = []
  for (const piece of [...reader.push(text), ...reader.end()]) {
    if (piece.kind === 'content') content += piece.text
    else if (piece.kind === 'arguments') (calls[piece.call] as ToolCall).function.arguments += piece.text
    else calls.push({ id: newCallId(), type: 'function', function: { name: piece.name, arguments: '' } })
  }
  return {
    choice: {
      text: content,
      tokens: tokensWithin(tokens, tokenBytes, content),
      reason: endOf(reason, calls.length),
    },
    calls,
  }
}

/** The tokens that lie in the text whole. */
function tokensWithin(tokens: readonly TokenLogprob[], tokenBytes: TokenBytes, text: string): TokenLogprob[] {
  const sizeBytes = Buffer.byteLength(text)
  let end = 0
  return tokens.filter(({ token }) => (end += tokenBytes(token).length) <= sizeBytes)
}

/** An answer that was cut short says so, also within a call. */
function endOf(reason: FinishReason, calls: number): FinishReason {
  return reason === 'stop' && calls > 0 ? 'tool_calls' : reason
}
