import { Hono } from 'hono'
import { contentText, type ChatMessage } from '@copal/shared/wire/chat.ts'
import { LIMITS } from '@copal/shared/wire/generation.ts'
import { chatCall } from '@copal/shared/wire/node-rpc.ts'
import { parse } from '@copal/shared/wire/parse.ts'
import type { TextCodec } from '../model/tokenizer.ts'
import { chatFormat } from './answer-format.ts'
import type { Generate } from './generate.ts'
import { encodePrompt } from './prompt.ts'
import { chatMaxTokens, chatTopLogprobs, samplingOf } from './sampling.ts'

/** The gateway wraps the client's body in a few fields of its own. */
export const CALL_BYTES = LIMITS.bodyBytes + 64 * 1024

type Message = Pick<ChatMessage, 'role' | 'content'>

/** `POST /rpc/chat-completions` */
export function chatCompletions(deps: {
  codec: TextCodec
  /** Tokens of prompt and answer together. */
  contextLength: number
  generate: Generate
  read: (request: Request, maxBytes: number) => Promise<unknown>
}): Hono {
  const { codec, contextLength, generate, read } = deps
  return new Hono().post('/', async (c) => {
    const { request, ...call } = parse(chatCall, await read(c.req.raw, CALL_BYTES))
    const withUsage = request.stream_options?.include_usage ?? false
    return generate(
      {
        ...call,
        model: request.model,
        stream: request.stream ?? false,
        idPrefix: 'chatcmpl-',
        prepare: () => ({
          ...samplingOf(request, chatTopLogprobs(request)),
          prompts: [
            encodePrompt(
              (text) => codec.encode(text),
              codec.renderChat(conversation(request.messages)),
              contextLength,
            ),
          ],
          choicesPerPrompt: request.n ?? 1,
          maxTokens: chatMaxTokens(request),
        }),
        clientText: () => codec.encodeDocument(userText(request.messages)),
        format: (head) =>
          chatFormat(head, {
            logprobs: request.logprobs ?? false,
            withUsage,
            namesTier: request.service_tier != null,
          }),
      },
      c.req.raw,
    )
  })
}

/** Messages for the template; `developer` is OpenAI's newer name of `system`. */
export function conversation(messages: readonly Message[]): { role: string; content: string }[] {
  return messages.map(({ role, content }) => ({
    role: role === 'developer' ? 'system' : role,
    content: contentText(content),
  }))
}

/** What the client wrote in a conversation: the user's messages, with a blank line between them. */
export function userText(messages: readonly Message[]): string {
  return messages
    .filter((message) => message.role === 'user')
    .map((message) => contentText(message.content))
    .join('\n\n')
}
