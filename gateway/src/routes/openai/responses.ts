import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { parseModelName } from '@copal/shared/wire/model-name.ts'
import { toChatRequest, responsesRequest } from '@copal/shared/wire/responses.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import { admit, readRequest } from '../../inference/validation/admission.ts'
import { respond } from '../../inference/respond.ts'
import { chatParts } from '../../inference/validation/chat-parts.ts'
import { estimateTokens } from '../../inference/validation/estimate-tokens.ts'
import { userText } from '../../adaptation/sampling/sample-text.ts'
import { rejectMethod } from '../../middleware/errors.ts'

/** `POST /v1/responses`, mounted at `/v1/responses` behind `requireKey`. Stateless: there is nothing to get or delete. */
export function responseRoutes(): Hono<KeyedEnv> {
  return new Hono<KeyedEnv>()
    .post('/', async (c) => {
      const admission = admit(c)
      const request = await readRequest(c, responsesRequest)
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
        text: () => userText(chat.messages),
      })
    })
    .all('/', rejectMethod('POST'))
    .all('/*', () => {
      throw new AppError('not_found', "Responses are not stored: there is only 'POST /v1/responses'.")
    })
}
