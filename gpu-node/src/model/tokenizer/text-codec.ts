import type { ChatTurn } from './chat-template.ts'

/** Text to token ids and back, and chat messages to a prompt. */
export interface TextCodec {
  /** Token ids without any BOS added; special tokens written in the text are recognised. */
  encode(text: string): number[]
  /** Token ids of a text that starts a context: after the BOS, where the model's tokenizer puts one. */
  encodeDocument(text: string): number[]
  /** The bytes of one token. A character may span several tokens, so bytes are joined before they are decoded. */
  tokenBytes(id: number): Uint8Array
  /** Whether the token is a control token that never appears in output text. */
  isSpecial(id: number): boolean
  /** Whether the chat template describes tools to the model and renders their calls. */
  readonly rendersTools: boolean
  /** The prompt of a conversation, ending where the assistant's answer starts; `tools` in the shape of OpenAI's. */
  renderChat(messages: readonly ChatTurn[], tools?: readonly object[]): string
}
