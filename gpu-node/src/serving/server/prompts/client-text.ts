import { contentText, type ChatMessage } from '@copal/shared/wire/chat.ts'
import type { TextCodec } from '../../../model/tokenizer/text-codec.ts'

/** The tokens of a prompt, and which of them are the client's new text. */
export interface ClientText {
  tokens: readonly number[]
  /** Positions of the new text's tokens, ascending. */
  own: readonly number[]
}

type Codec = Pick<TextCodec, 'tokenBytes' | 'encodeDocument'>

/** Returns the client's text of a prompt that is nothing else. */
export function wholePrompt(tokens: readonly number[]): ClientText {
  return { tokens, own: [...tokens.keys()] }
}

/**
 * Returns the texts that are new in a conversation: the client's newest message, with those directly before it. None if the
 * output of a tool follows, because then they were part of an earlier request.
 */
export function newMessages(messages: readonly Pick<ChatMessage, 'role' | 'content'>[]): string[] {
  const last = messages.findLastIndex(({ role }) => role === 'user')
  if (last < 0 || messages.slice(last).some(({ role }) => role === 'tool')) return []
  const before = messages.slice(0, last).findLastIndex(({ role }) => role !== 'user')
  return messages.slice(before + 1, last + 1).map(({ content }) => contentText(content))
}

/**
 * Finds the new messages of a conversation in its prompt. A tokenizer or a template that changes the text hides them; then
 * the messages stand alone, without the conversation before them.
 *
 * @param encode tokenises the messages where they stand alone; they may be long
 * @param prompt the rendered conversation and its tokens
 * @throws what `encode` throws
 */
export async function newClientText(
  codec: Codec,
  encode: (text: string) => Promise<number[]>,
  prompt: { text: string; tokens: readonly number[] },
  messages: readonly Pick<ChatMessage, 'role' | 'content'>[],
): Promise<ClientText> {
  const texts = newMessages(messages)
  const ranges = rangesOf(prompt.text, texts)
  const ends = ranges && tokenEnds(codec, prompt.text, prompt.tokens)
  if (!ends) return wholePrompt(texts.length === 0 ? [] : await encode(texts.join('\n\n')))
  const bytes = Buffer.from(prompt.text)
  const isOwn = (position: number) => {
    const start = ends[position - 1] ?? 0
    const end = ends[position] as number
    if (start === end) return false
    // A token may begin or end with space that the template writes beside the message.
    const isWithin = ([from, to]: readonly [number, number]) =>
      end > from && start < to && isBlank(bytes.subarray(start, from)) && isBlank(bytes.subarray(to, end))
    return ranges.some(isWithin)
  }
  return { tokens: prompt.tokens, own: [...prompt.tokens.keys()].filter(isOwn) }
}

/** Returns where texts end a prompt, in bytes, from the last one back; null where one is not found as it is. */
function rangesOf(prompt: string, texts: readonly string[]): (readonly [from: number, to: number])[] | null {
  const ranges: (readonly [number, number])[] = []
  let before = prompt.length
  for (const text of texts.toReversed()) {
    const written = text.trim()
    const at = before < written.length ? -1 : prompt.lastIndexOf(written, before - written.length)
    if (at < 0) return null
    const from = Buffer.byteLength(prompt.slice(0, at))
    ranges.push([from, from + Buffer.byteLength(written)])
    before = at
  }
  return ranges
}

/**
 * Returns the byte of a text at which each of its tokens ends; null where the tokens spell another text. Tokenizers may
 * add a space at the start, drop spaces beside special tokens, and add a BOS.
 */
function tokenEnds(codec: Codec, text: string, tokens: readonly number[]): number[] | null {
  const bytes = Buffer.from(text)
  const added = codec.encodeDocument('').length
  const ends: number[] = []
  let at = 0
  for (const [index, token] of tokens.entries()) {
    const spelt = Buffer.from(codec.tokenBytes(token))
    const isAt = (part: Buffer, from: number) => bytes.subarray(from, from + part.length).equals(part)
    let from = at
    while (!isAt(spelt, from) && isSpace(bytes[from])) from += 1
    if (isAt(spelt, from)) at = from + spelt.length
    else if (isSpace(spelt[0]) && isAt(spelt.subarray(1), at)) at += spelt.length - 1
    else if (index >= added) return null
    ends.push(at)
  }
  return ends
}

function isBlank(bytes: Uint8Array): boolean {
  return bytes.every(isSpace)
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}
