import { Hono } from 'hono'
import { promptsOf } from '@copal/shared/wire/completions.ts'
import { completionCall } from '@copal/shared/wire/node-calls.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import type { ClientPrompt } from '../formats/echoed-prompt.ts'
import { completionFormat } from '../formats/output-format.ts'
import { COMPLETION_LOGPROB_BYTES, requireLogprobsFit } from '../generation/response-size.ts'
import { MAX_CALL_BYTES, type InferenceRouteDeps, ownerOf } from './route-deps.ts'
import { wholePrompt } from '../prompts/client-text.ts'
import { promptPrefixes, tokensOf } from '../prompts/prompt-tokens.ts'
import { completionMaxTokens, samplingOf } from '../generation/sampling-options.ts'

/** Creates the route of `POST /rpc/completions`. */
export function completions(deps: Omit<InferenceRouteDeps, 'grammars'>): Hono {
  const { model, encoder, generate, read } = deps
  return new Hono().post('/', async (c) => {
    const { request, ...call } = validate(completionCall, await read(c.req.raw, MAX_CALL_BYTES))
    const withUsage = request.stream_options?.include_usage ?? false
    const topLogprobs = request.logprobs ?? -1
    const clientPrompts = promptsOf(request)
    const [first = []] = clientPrompts
    let prompts: number[][] = []
    const echo = (choice: number): ClientPrompt => {
      const index = Math.floor(choice / (request.n ?? 1))
      const text = clientPrompts[index]
      return { text: typeof text === 'string' ? text : undefined, tokens: prompts[index] ?? [] }
    }
    return generate(
      {
        ...call,
        model: request.model,
        stream: request.stream ?? false,
        idPrefix: 'cmpl-',
        async prepare(signal) {
          const field = { name: 'prompt', value: request.prompt }
          const caller = { signal, ...ownerOf(call) }
          prompts = await tokensOf(clientPrompts, field, model.config, encoder, caller)
          const plan = {
            ...samplingOf(request, topLogprobs),
            prompts,
            prefixes: promptPrefixes(call.prefix, first.length, prompts[0]?.length ?? 0),
            choicesPerPrompt: request.n ?? 1,
            promptLogprobs: request.echo ? topLogprobs : -1,
            maxTokens: completionMaxTokens(request),
          }
          if (!request.stream)
            requireLogprobsFit(plan, model.config.contextLength, COMPLETION_LOGPROB_BYTES, 'logprobs')
          return plan
        },
        clientText: async () => wholePrompt(prompts[0] ?? []),
        format: (head) =>
          completionFormat(head, {
            logprobs: topLogprobs >= 0,
            tokenBytes: (id) => model.codec.tokenBytes(id),
            withUsage,
            echo: request.echo ? echo : undefined,
          }),
      },
      c.req.raw,
    )
  })
}
