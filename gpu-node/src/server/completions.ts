import { Hono } from 'hono'
import type { CompletionRequest } from '@copal/shared/wire/completions.ts'
import { completionCall } from '@copal/shared/wire/node-rpc.ts'
import { parse } from '@copal/shared/wire/parse.ts'
import type { TextCodec } from '../model/tokenizer.ts'
import { completionFormat } from './answer-format.ts'
import { CALL_BYTES } from './chat-completions.ts'
import type { Generate } from './generate.ts'
import { completionMaxTokens, samplingOf } from './sampling.ts'

/** `POST /rpc/completions` */
export function completions(deps: {
  codec: TextCodec
  generate: Generate
  read: (request: Request, maxBytes: number) => Promise<unknown>
}): Hono {
  const { codec, generate, read } = deps
  return new Hono().post('/', async (c) => {
    const { request, ...call } = parse(completionCall, await read(c.req.raw, CALL_BYTES))
    const withUsage = request.stream_options?.include_usage ?? false
    const topLogprobs = request.logprobs ?? -1
    const tokens = () => promptTokens(codec, request.prompt)
    return generate(
      {
        ...call,
        model: request.model,
        stream: request.stream ?? false,
        withUsage,
        idPrefix: 'cmpl',
        prepare: () => ({
          ...samplingOf(request, topLogprobs),
          prompt: tokens(),
          maxTokens: completionMaxTokens(request),
        }),
        clientText: tokens,
        format: (head) => completionFormat(head, { logprobs: topLogprobs >= 0, withUsage }),
      },
      c.req.raw,
    )
  })
}

function promptTokens(codec: TextCodec, prompt: CompletionRequest['prompt']): readonly number[] {
  return typeof prompt === 'string' ? codec.encode(prompt) : prompt
}
