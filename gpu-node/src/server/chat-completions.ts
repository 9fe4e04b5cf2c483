import { Hono } from 'hono'
import { chatCall } from '@copal/shared/wire/node-rpc.ts'
import { parse } from '@copal/shared/wire/parse.ts'
import { chatFormat } from './answer-format.ts'
import { CHAT_LOGPROB_BYTES, requireLogprobsFit } from './answer-size.ts'
import { chatPrompt, userText } from './conversation.ts'
import { CALL_BYTES, type InferenceDeps } from './inference-deps.ts'
import { beginningsOf, encodePrompt } from './prompt.ts'
import { chatMaxTokens, chatTopLogprobs, samplingOf } from './sampling.ts'
import { CHAT_FIELDS, compileStructure, structureOf } from './structure.ts'
import { toolFormat } from './tool-format.ts'

/** `POST /rpc/chat-completions` */
export function chatCompletions(deps: InferenceDeps): Hono {
  const { contextLength, grammars, generate, read } = deps
  const { codec } = deps.model
  return new Hono().post('/', async (c) => {
    const { request, ...call } = parse(chatCall, await read(c.req.raw, CALL_BYTES))
    const structure = structureOf(request, CHAT_FIELDS)
    const withUsage = request.stream_options?.include_usage ?? false
    return generate(
      {
        ...call,
        model: request.model,
        stream: request.stream ?? false,
        idPrefix: 'chatcmpl-',
        async prepare() {
          const prompt = chatPrompt(codec, request, structure.tools)
          const tokens = encodePrompt((text) => codec.encode(text), prompt, contextLength)
          const plan = {
            ...samplingOf(request, chatTopLogprobs(request)),
            prompts: [tokens],
            beginnings: beginningsOf(call.prefix, prompt.length, tokens.length),
            choicesPerPrompt: request.n ?? 1,
            maxTokens: chatMaxTokens(request),
            constrain: await compileStructure(grammars, structure),
          }
          if (!request.stream) requireLogprobsFit(plan, contextLength, CHAT_LOGPROB_BYTES, 'top_logprobs')
          return plan
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
