import { Hono } from 'hono'
import { LIMITS } from '@copal/shared/wire/generation.ts'
import { chatCall } from '@copal/shared/wire/node-rpc.ts'
import { parse } from '@copal/shared/wire/parse.ts'
import type { TextCodec } from '../model/tokenizer.ts'
import type { Grammars } from '../grammar/grammars.ts'
import { chatFormat } from './answer-format.ts'
import { chatPrompt, userText } from './conversation.ts'
import type { Generate } from './generate.ts'
import { encodePrompt } from './prompt.ts'
import { chatMaxTokens, chatTopLogprobs, samplingOf } from './sampling.ts'
import { compileStructure, structureOf } from './structure.ts'
import { toolFormat } from './tool-format.ts'

/** The gateway wraps the client's body in a few fields of its own. */
export const CALL_BYTES = LIMITS.bodyBytes + 64 * 1024

/** `POST /rpc/chat-completions` */
export function chatCompletions(deps: {
  codec: TextCodec
  /** Tokens of prompt and answer together. */
  contextLength: number
  grammars: Grammars
  generate: Generate
  read: (request: Request, maxBytes: number) => Promise<unknown>
}): Hono {
  const { codec, contextLength, grammars, generate, read } = deps
  return new Hono().post('/', async (c) => {
    const { request, ...call } = parse(chatCall, await read(c.req.raw, CALL_BYTES))
    const structure = structureOf(request)
    const withUsage = request.stream_options?.include_usage ?? false
    return generate(
      {
        ...call,
        model: request.model,
        stream: request.stream ?? false,
        idPrefix: 'chatcmpl-',
        async prepare() {
          const prompt = chatPrompt(codec, request, structure.tools)
          return {
            ...samplingOf(request, chatTopLogprobs(request)),
            prompts: [encodePrompt((text) => codec.encode(text), prompt, contextLength)],
            choicesPerPrompt: request.n ?? 1,
            maxTokens: chatMaxTokens(request),
            constrain: await compileStructure(grammars, structure, request),
          }
        },
        clientText: () => codec.encodeDocument(userText(request.messages)),
        format(head) {
          const format = chatFormat(head, {
            logprobs: request.logprobs ?? false,
            withUsage,
            namesTier: request.service_tier != null,
          })
          return structure.tools.length > 0 ? toolFormat(format) : format
        },
      },
      c.req.raw,
    )
  })
}
