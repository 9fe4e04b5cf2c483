import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { parseModelName } from '@copal/shared/wire/model-name.ts'
import { toChatRequest, responsesRequest } from '@copal/shared/wire/responses.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import { readAdmission, readRequestBody } from '../../inference/validation/request-validation.ts'
import { respond } from '../../inference/respond.ts'
import { chatParts } from '../../inference/validation/chat-parts.ts'
import { estimateTokens } from '../../inference/validation/estimate-tokens.ts'
import { newMessage, openingOf } from '../../adaptation/sampling/sample-text.ts'

/** Creates `POST /v1/responses`; mount it at that path behind `requireKey`. Responses are not stored. */
export function responseRoutes(): Hono<KeyedEnv> {
  return new Hono<KeyedEnv>()
    .post('/', async (c) => {
      const admission = await readAdmission(c)
      const request = await readRequestBody(c, responsesRequest)
      const chat = toChatRequest(request)
      const parts = chatParts(chat)
      return respond(c, {
        path: '/rpc/responses',
        model: parseModelName(request.model),
        ...admission,
        promptTokens: estimateTokens(parts),
        maxTokens: request.max_output_tokens ?? null,
        boundField: 'max_output_tokens',
        request,
        promptParts: () => parts,
        opening: openingOf(chat.messages),
        newTexts: () => newMessage(chat.messages),
      })
    })
    .all('/:id{.+}', () => {
      throw new AppError(
        'not_found',
        "Responses are not stored, so they cannot be read or deleted. Only 'POST /v1/responses' exists.",
      )
    })
}
