import { Hono } from 'hono'
import { responsesCall } from '@copal/shared/wire/node-rpc.ts'
import { parse } from '@copal/shared/wire/parse.ts'
import { messagesOf } from '@copal/shared/wire/responses.ts'
import type { TextCodec } from '../model/tokenizer.ts'
import { CALL_BYTES } from './chat-completions.ts'
import { chatPrompt, userText } from './conversation.ts'
import type { Generate } from './generate.ts'
import { encodePrompt } from './prompt.ts'
import { responseFormat } from './response-format.ts'
import { samplingOf } from './sampling.ts'

/** `POST /rpc/responses` */
export function responses(deps: {
  codec: TextCodec
  /** Tokens of prompt and answer together. */
  contextLength: number
  generate: Generate
  read: (request: Request, maxBytes: number) => Promise<unknown>
}): Hono {
  const { codec, contextLength, generate, read } = deps
  return new Hono().post('/', async (c) => {
    const { request, ...call } = parse(responsesCall, await read(c.req.raw, CALL_BYTES))
    const messages = messagesOf(request)
    const { model, temperature, top_p, seed } = request
    return generate(
      {
        ...call,
        model,
        stream: request.stream ?? false,
        idPrefix: 'resp_',
        prepare: async () => ({
          ...samplingOf({ model, temperature, top_p, seed }, -1),
          prompts: [
            encodePrompt((text) => codec.encode(text), chatPrompt(codec, { messages }, []), contextLength),
          ],
          choicesPerPrompt: 1,
          maxTokens: request.max_output_tokens ?? null,
        }),
        clientText: () => codec.encodeDocument(userText(messages)),
        format: (head) => responseFormat(head, request),
      },
      c.req.raw,
    )
  })
}
