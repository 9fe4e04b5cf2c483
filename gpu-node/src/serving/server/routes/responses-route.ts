import { Hono } from 'hono'
import { responsesCall } from '@copal/shared/wire/node-calls.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { toChatRequest } from '@copal/shared/wire/responses.ts'
import { chatPrompt } from '../prompts/chat-prompt.ts'
import { newClientText } from '../prompts/client-text.ts'
import { MAX_CALL_BYTES, type InferenceRouteDeps, ownerOf } from './route-deps.ts'
import { promptPrefixes } from '../prompts/prompt-tokens.ts'
import { responseFormat } from '../formats/responses-format.ts'
import { samplingOf } from '../generation/sampling-options.ts'
import { compileStructure, RESPONSE_FIELDS, structureOf } from '../prompts/structured-output.ts'

/** Creates the route of `POST /rpc/responses`. */
export function responses(deps: InferenceRouteDeps): Hono {
  const { encoder, grammars, generate, read } = deps
  const { codec } = deps.model
  return new Hono().post('/', async (c) => {
    const { request, ...call } = validate(responsesCall, await read(c.req.raw, MAX_CALL_BYTES))
    const chat = toChatRequest(request)
    const structure = structureOf(chat, RESPONSE_FIELDS)
    const { model, temperature, top_p, seed } = request
    const prompt = { text: '', tokens: [] as readonly number[] }
    const encodeAlone = async (text: string) =>
      (await encoder.encode([text], 'document', ownerOf(call)))[0] ?? []
    return generate(
      {
        ...call,
        model,
        stream: request.stream ?? false,
        idPrefix: 'resp_',
        async prepare(signal) {
          prompt.text = chatPrompt(codec, chat, structure.tools)
          const [tokens = []] = await encoder.encode([prompt.text], 'prompt', { signal, ...ownerOf(call) })
          prompt.tokens = tokens
          return {
            ...samplingOf({ model, temperature, top_p, seed }, -1),
            prompts: [tokens],
            prefixes: promptPrefixes(call.prefix, prompt.text.length, tokens.length),
            choicesPerPrompt: 1,
            maxTokens: request.max_output_tokens ?? null,
            constrain: await compileStructure(grammars, structure, { signal, ...ownerOf(call) }),
          }
        },
        clientText: () => newClientText(codec, encodeAlone, prompt, chat.messages),
        format: (head) => responseFormat(head, request, structure.tools.length > 0),
      },
      c.req.raw,
    )
  })
}
