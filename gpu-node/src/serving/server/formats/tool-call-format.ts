import type { ChatCompletion, ChatCompletionChunk, FinishReason } from '@copal/shared/wire/chat.ts'
import type { ToolCall, ToolCallDelta } from '@copal/shared/wire/tools.ts'
import type { TokenLogprob } from '../../engine/generated-text.ts'
import type { OutputFormat, FinishedChoice } from './output-format.ts'
import { newCallId } from './tool-call-id.ts'
import type { TokenBytes } from './logprobs.ts'
import { createToolCallReader, type OutputPiece, type ToolCallReader } from './tool-call-reader.ts'

/** The state of a streamed choice. */
interface StreamedChoice {
  reader: ToolCallReader
  tokens: ContentTokens
}

/**
 * Formats `chat.completion` and its chunks for output that may call tools: text becomes `content`, calls become
 * `tool_calls`. Log-probabilities are those of the tokens that begin in the content.
 *
 * @param chat the format of chats without tools, which this one extends
 */
export function toolFormat(chat: OutputFormat, tokenBytes: TokenBytes): OutputFormat {
  const streamed = new Map<number, StreamedChoice>()
  const stateOf = (choice: number): StreamedChoice => {
    const existing = streamed.get(choice)
    if (existing) return existing
    const created = { reader: createToolCallReader(), tokens: createContentTokens(tokenBytes) }
    streamed.set(choice, created)
    return created
  }
  /** Returns a chunk like that of text, with another delta. */
  const chunkWith = (choice: number, delta: ChatCompletionChunk['choices'][number]['delta']) =>
    (chat.delta(choice, '', []) as ChatCompletionChunk[]).map((chunk) => ({
      ...chunk,
      choices: chunk.choices.map((each) => ({ ...each, delta, logprobs: null })),
    }))
  const callChunk = (choice: number, call: ToolCallDelta) => chunkWith(choice, { tool_calls: [call] })
  const chunksOf = (choice: number, pieces: readonly OutputPiece[]): object[] => {
    const state = stateOf(choice)
    return pieces.flatMap((piece) => {
      if (piece.kind === 'content') return chat.delta(choice, piece.text, state.tokens.take(piece.text))
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
    body(choices, usage) {
      const read = choices.map((choice) => readChoice(choice, tokenBytes))
      const completion = chat.body(
        read.map(({ choice }) => choice),
        usage,
      ) as ChatCompletion
      return {
        ...completion,
        choices: completion.choices.map((choice, index) => {
          const calls = read[index]?.calls ?? []
          if (calls.length === 0) return choice
          const content = choice.message.content === '' ? null : choice.message.content
          return { ...choice, message: { ...choice.message, content, tool_calls: calls } }
        }),
      } satisfies ChatCompletion
    },
    start: (choices) =>
      Array.from({ length: choices }, (_, choice) =>
        chunkWith(choice, { role: 'assistant', content: null }),
      ).flat(),
    delta(choice, text, tokens) {
      const state = stateOf(choice)
      if (state.reader.inContent) state.tokens.push(tokens)
      return chunksOf(choice, state.reader.push(text))
    },
    endChoice(choice, reason) {
      const { reader } = stateOf(choice)
      const rest = chunksOf(choice, reader.end())
      return [...rest, ...chat.endChoice(choice, finishReasonWith(reason, reader.calls))]
    },
  }
}

function readChoice(
  { text, tokens, reason }: FinishedChoice,
  tokenBytes: TokenBytes,
): { choice: FinishedChoice; calls: ToolCall[] } {
  const reader = createToolCallReader()
  const contentTokens = createContentTokens(tokenBytes)
  contentTokens.push(tokens)
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
      tokens: contentTokens.take(content),
      reason: finishReasonWith(reason, calls.length),
    },
    calls,
  }
}

/** The tokens of an output from its start on, of which those that begin in the content are taken. */
interface ContentTokens {
  push(tokens: readonly TokenLogprob[]): void
  /** Takes the tokens that begin in the next piece of the content. */
  take(piece: string): TokenLogprob[]
}

function createContentTokens(tokenBytes: TokenBytes): ContentTokens {
  let held: readonly TokenLogprob[] = []
  /** Where the content ends so far, and where the first of the tokens begins, in bytes of the output. */
  let [end, begin] = [0, 0]
  return {
    push: (tokens) => void (held = [...held, ...tokens]),
    take(piece) {
      end += Buffer.byteLength(piece)
      let count = 0
      for (; count < held.length && begin < end; count++) begin += tokenBytes(held[count]!.token).length
      const taken = held.slice(0, count)
      held = held.slice(count)
      return taken
    },
  }
}

/** Returns the finish reason of a choice with calls. Truncated output keeps `length`, also within a call. */
function finishReasonWith(reason: FinishReason, calls: number): FinishReason {
  return reason === 'stop' && calls > 0 ? 'tool_calls' : reason
}
