import { Hono } from 'hono'
import { promptsOf } from '@copal/shared/wire/completions.ts'
import { completionCall } from '@copal/shared/wire/node-rpc.ts'
import { parse } from '@copal/shared/wire/parse.ts'
import { completionFormat } from './answer-format.ts'
import { COMPLETION_LOGPROB_BYTES, requireLogprobsFit } from './answer-size.ts'
import { CALL_BYTES, type InferenceDeps } from './inference-deps.ts'
import { beginningsOf, tokensOf } from './prompt.ts'
import { completionMaxTokens, samplingOf } from './sampling.ts'

/** `POST /rpc/completions` */
export function completions(deps: Omit<InferenceDeps, 'grammars'>): Hono {
  const { model, contextLength, generate, read } = deps
  return new Hono().post('/', async (c) => {
    const { request, ...call } = parse(completionCall, await read(c.req.raw, CALL_BYTES))
    const withUsage = request.stream_options?.include_usage ?? false
    const topLogprobs = request.logprobs ?? -1
    const tokens = () =>
      tokensOf(promptsOf(request), { name: 'prompt', value: request.prompt }, model, contextLength)
    return generate(
      {
        ...call,
        model: request.model,
        stream: request.stream ?? false,
        idPrefix: 'cmpl-',
        async prepare() {
          const prompts = tokens()
          const [first] = promptsOf(request)
          const plan = {
            ...samplingOf(request, topLogprobs),
            prompts,
            beginnings: beginningsOf(call.prefix, first?.length ?? 1, prompts[0]?.length ?? 0),
            choicesPerPrompt: request.n ?? 1,
            maxTokens: completionMaxTokens(request),
          }
          if (!request.stream) requireLogprobsFit(plan, contextLength, COMPLETION_LOGPROB_BYTES, 'logprobs')
          return plan
        },
        clientText: () => tokens()[0] ?? [],
        format: (head) => completionFormat(head, { logprobs: topLogprobs >= 0, withUsage }),
      },
      c.req.raw,
    )
  })
}
