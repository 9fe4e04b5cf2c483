import type { ChatTurn } from './chat-template.ts'

/** Text to token ids and back, and chat messages to a prompt. */
export interface TextCodec {
  /** Encodes a text without adding a BOS; special tokens written in the text are recognised. */
  encode(text: string): number[]
  /** Encodes a text that starts a context: after the BOS, where the model's tokenizer adds one. */
  encodeDocument(text: string): number[]
  /** Returns the bytes of one token. A character may span several tokens, so join bytes before decoding them. */
  tokenBytes(id: number): Uint8Array
  /** Whether the token is a control token that never appears in output text. */
  isSpecial(id: number): boolean
  /** Whether the chat template describes tools to the model and renders their calls. */
  readonly rendersTools: boolean
  /** Renders the prompt of a conversation up to the start of the assistant's message; `tools` in OpenAI's shape. */
  renderChat(messages: readonly ChatTurn[], tools?: readonly object[]): string
}
