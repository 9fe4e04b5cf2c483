import { Hono } from 'hono'
import { chatRequest } from '@copal/shared/wire/chat.ts'
import { parseModelName } from '@copal/shared/wire/model-name.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import { readAdmission, readRequestBody } from '../../inference/validation/request-validation.ts'
import { respond } from '../../inference/respond.ts'
import { chatParts } from '../../inference/validation/chat-parts.ts'
import { estimateTokens } from '../../inference/validation/estimate-tokens.ts'
import { newMessage, openingOf } from '../../adaptation/sampling/sample-text.ts'

/** Creates `POST /v1/chat/completions`; mount it at that path behind `requireKey`. */
export function chatCompletionRoutes(): Hono<KeyedEnv> {
  return new Hono<KeyedEnv>().post('/', async (c) => {
    const admission = await readAdmission(c)
    const request = await readRequestBody(c, chatRequest)
    const parts = chatParts(request)
    return respond(c, {
      model: parseModelName(request.model),
      path: '/rpc/chat-completions',
      ...admission,
      promptTokens: estimateTokens(parts),
      maxTokens: request.max_completion_tokens ?? request.max_tokens ?? null,
      choices: request.n ?? 1,
      request,
      promptParts: () => parts,
      opening: openingOf(request.messages),
      newTexts: () => newMessage(request.messages),
    })
  })
}
