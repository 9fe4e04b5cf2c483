import { Hono } from 'hono'
import { contentText } from '@copal/shared/wire/chat.ts'
import { chatCall } from '@copal/shared/wire/node-calls.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { chatFormat } from '../formats/output-format.ts'
import { CHAT_LOGPROB_BYTES, requireLogprobsFit } from '../generation/response-size.ts'
import { chatPrompt } from '../prompts/chat-prompt.ts'
import { newClientText } from '../prompts/client-text.ts'
import { MAX_CALL_BYTES, type InferenceRouteDeps, ownerOf } from './route-deps.ts'
import { promptPrefixes } from '../prompts/prompt-tokens.ts'
import { chatMaxTokens, chatTopLogprobs, samplingOf } from '../generation/sampling-options.ts'
import { CHAT_FIELDS, compileStructure, structureOf } from '../prompts/structured-output.ts'
import { toolFormat } from '../formats/tool-call-format.ts'

/** Creates the route of `POST /rpc/chat-completions`. */
export function chatCompletions(deps: InferenceRouteDeps): Hono {
  const { encoder, grammars, generate, read } = deps
  const { codec, config } = deps.model
  const tokenBytes = (id: number) => codec.tokenBytes(id)
  return new Hono().post('/', async (c) => {
    const { request, ...call } = validate(chatCall, await read(c.req.raw, MAX_CALL_BYTES))
    const structure = structureOf(request, CHAT_FIELDS)
    const withUsage = request.stream_options?.include_usage ?? false
    const prompt = { text: '', tokens: [] as readonly number[] }
    const encodeAlone = async (text: string) =>
      (await encoder.encode([text], 'document', ownerOf(call)))[0] ?? []
    return generate(
      {
        ...call,
        model: request.model,
        stream: request.stream ?? false,
        idPrefix: 'chatcmpl-',
        async prepare(signal) {
          prompt.text = chatPrompt(codec, request, structure.tools)
          // An output has no more than the context.
          const predicted = contentText(request.prediction?.content).slice(0, encoder.contextCharacters)
          const [tokens = [], prediction] = await encoder.encode([prompt.text, predicted], 'prompt', {
            signal,
            ...ownerOf(call),
          })
          prompt.tokens = tokens
          const plan = {
            ...samplingOf(request, chatTopLogprobs(request)),
            prompts: [tokens],
            prediction,
            prefixes: promptPrefixes(call.prefix, prompt.text.length, tokens.length),
            choicesPerPrompt: request.n ?? 1,
            maxTokens: chatMaxTokens(request),
            constrain: await compileStructure(grammars, structure, { signal, ...ownerOf(call) }),
          }
          if (!request.stream)
            requireLogprobsFit(plan, config.contextLength, CHAT_LOGPROB_BYTES, 'top_logprobs')
          return plan
        },
        clientText: () => newClientText(codec, encodeAlone, prompt, request.messages),
        format(head) {
          const format = chatFormat(head, {
            logprobs: request.logprobs ?? false,
            tokenBytes,
            withUsage,
            namesTier: request.service_tier != null,
          })
          return structure.tools.length > 0 ? toolFormat(format, tokenBytes) : format
        },
      },
      c.req.raw,
    )
  })
}
