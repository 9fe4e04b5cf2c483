import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { DEFAULT_DOMAIN } from '@copal/shared/wire/admin-keys.ts'
import { domainName, LIMITS } from '@copal/shared/wire/inference-fields.ts'
import { validate, parseJson } from '@copal/shared/wire/validate.ts'
import type { Priority } from '../../contracts/acquire.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import { requireAllowed } from '../../keys/allow-list.ts'
import { decodeBody, readBody } from '../../runtime/body-reader.ts'
import { stricterPolicy } from '../../keys/sampling-policy.ts'
import { priorityOf } from './priority.ts'
import { maySample } from '../../adaptation/sampling/consent.ts'

/** The decisions of a request's headers: its domain, its priority, and whether its text may be sampled. */
export interface Admission {
  domain: string
  /** Whether neither the request nor its key names a domain that it may use: `domain` is where unclear texts go. */
  discover: boolean
  sample: boolean
  priority: Priority
}

/**
 * Reads the domain of a request, from `x-copal-domain` or its key's default, its priority, and whether its text may be sampled.
 *
 * A domain that belongs to another tenant counts as none: the request is answered as if the header were missing, or under
 * `default` if the key's default belongs to another tenant too.
 *
 * @throws AppError `invalid_request` that names the header, `insufficient_permissions` for a domain that the key may
 * not use
 */
export async function readAdmission(c: Context<KeyedEnv>): Promise<Admission> {
  const { deps, key, domainOwners } = c.var
  const header = c.req.header('x-copal-domain')
  const result = domainName.safeParse(header ?? key.defaultDomain)
  if (!result.success) {
    const reason = result.error.issues[0]?.message ?? 'a domain name is expected'
    throw new AppError('invalid_request', `Invalid 'x-copal-domain': ${reason}.`, { param: 'x-copal-domain' })
  }
  const named = result.data
  requireAllowed(key.allowedDomains, named, 'domain', 'x-copal-domain')
  const ofOthers = await domainOwners.ofOthers(deps, key.tenant)
  const domain = [named, key.defaultDomain].find((name) => !ofOthers.includes(name)) ?? DEFAULT_DOMAIN
  const isAllowed = key.allowedDomains?.includes(domain) ?? true
  return {
    domain,
    discover: (header === undefined || domain !== named) && key.discoverDomains,
    sample:
      isAllowed &&
      maySample(stricterPolicy(key.sampling, key.tenantSampling), c.req.header('x-copal-sample')),
    priority: priorityOf(c),
  }
}

/**
 * Reads and validates the JSON body of an inference request.
 *
 * @throws AppError `body_too_large`, `invalid_request`
 */
export async function readRequestBody<T extends Parameters<typeof validate>[0]>(
  c: Context<KeyedEnv>,
  schema: T,
): Promise<ReturnType<typeof validate<T>>> {
  const encoding = c.req.header('content-encoding')?.toLowerCase() ?? 'identity'
  if (encoding !== 'identity')
    throw new AppError(
      'invalid_request',
      "The request body is compressed. Send it without 'Content-Encoding'.",
      {
        param: 'content-encoding',
      },
    )
  return validate(schema, parseJson(decodeBody(await readBody(c.req.raw, LIMITS.bodyBytes))))
}
