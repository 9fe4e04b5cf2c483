import { Hono, type Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import {
  accountChanges,
  createKey,
  DEFAULT_DOMAIN,
  DEFAULT_TENANT,
  keysQuery,
  rotateKey,
  type CreatedKey,
  type KeyEntry,
} from '@copal/shared/wire/admin-keys.ts'
import type { Page } from '@copal/shared/wire/paging.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import {
  changeKey,
  findKey,
  insertKey,
  insertKeyWithin,
  listKeys,
  type KeyPlace,
  revokeKey,
  rotateKey as storeRotation,
} from '../../storage/db/queries/key-queries.ts'
import type { KeyRow } from '../../contracts/api-key.ts'
import { hasTenant, listTenantNames } from '../../storage/db/queries/tenant-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import {
  isNotAbove,
  requireGrants,
  requireLimits,
  requireNotAbove,
  requireSampling,
  tenantOf,
} from '../../keys/key-grants.ts'
import { digestOf, generateKey, pepperedHash } from '../../keys/key-secret.ts'
import { changeLimits, limitsEntry, limitsPatch } from '../../usage/limits/key-limits.ts'
import { readAdminBody } from './admin-body.ts'

/** Keys of a tenant that its administrators can create: each costs a row that lists read. Operators are not limited. */
const MAX_KEYS_PER_TENANT = 1_000

/**
 * Creates the routes that create, list, limit, rotate and revoke API keys: all keys for the operator, the keys of its
 * tenant that may do no more than its own for a tenant administrator.
 */
export function keyRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .post('/keys', async (c) => {
      const { deps, actor } = c.var
      const request = await readAdminBody(c, createKey)
      const tenant = tenantOf(actor, request.tenant) ?? DEFAULT_TENANT
      const grants = {
        scopes: request.scopes,
        allowedModels: request.allowed_models ?? null,
        allowedDomains: request.allowed_domains ?? null,
        expiresAt: expiryOf(request.expires_at, deps.nowMs()),
        limits: changeLimits({}, request.limits),
        sampling: request.sampling,
      }
      requireGrants(actor, grants)
      await requireTenant(deps, tenant)
      const { key, ...secret } = await newSecret(deps)
      const stored = {
        id: `key_${crypto.randomUUID().replaceAll('-', '')}`,
        name: request.name,
        ...secret,
        peppered: true,
        tenant,
        ...grants,
        defaultDomain: request.default_domain ?? DEFAULT_DOMAIN,
        discoverDomains: request.discover_domains ?? request.default_domain === undefined,
        createdAt: deps.nowMs(),
      }
      const row = await (actor.kind === 'operator'
        ? insertKey(deps.db, stored)
        : insertKeyWithin(deps.db, stored, MAX_KEYS_PER_TENANT))
      if (!row) throw tooManyKeys(tenant)
      return showOnce(c, row, key, 201)
    })
    .get('/keys', async (c) => {
      const { deps, actor } = c.var
      const { tenant, limit, after } = validate(keysQuery, c.req.query())
      const place = after === undefined ? undefined : parsePlace(after)
      const keys = await listKeys(deps.db, { tenant: tenantOf(actor, tenant), after: place, limit })
      const last = keys.length < limit ? undefined : keys.at(-1)
      return c.json({
        data: keys.filter((key) => isNotAbove(actor, key)).map((key) => keyEntry(key, deps.nowMs())),
        next_after: last ? `${last.createdAt}.${last.id}` : null,
      } satisfies Page<KeyEntry>)
    })
    .post('/keys/:id/rotate', async (c) => {
      const { deps, actor } = c.var
      const { grace_seconds } = await readAdminBody(c, rotateKey)
      const id = c.req.param('id')
      const nowMs = deps.nowMs()
      const old = await findKey(deps.db, id, tenantOf(actor, undefined))
      if (!old) throw unknownKey(id)
      requireNotAbove(actor, old)
      if (old.expiresAt !== null && old.expiresAt <= nowMs) {
        const since = new Date(old.expiresAt).toISOString()
        throw new AppError(
          'conflict',
          `The key '${id}' expired at ${since}. Create a new one with 'POST /admin/keys'.`,
        )
      }
      const { key, hash, prefix } = await newSecret(deps)
      const row = await storeRotation(deps.db, old, {
        hash,
        prefix,
        previousHash: old.peppered ? old.hash : await pepperedHash(deps.keyPepper, old.hash),
        previousUntil: nowMs + grace_seconds * 1000,
      })
      if (!row)
        throw new AppError(
          'conflict',
          `The key '${id}' was changed by another request at the same time. List the keys and try again.`,
        )
      return showOnce(c, row, key, 200)
    })
    .patch('/keys/:id', async (c) => {
      const { deps, actor } = c.var
      const changes = await readAdminBody(c, accountChanges)
      const id = c.req.param('id')
      const row = await findKey(deps.db, id, tenantOf(actor, undefined))
      if (!row) throw unknownKey(id)
      requireNotAbove(actor, row)
      requireLimits(actor, changeLimits(row.limits, changes.limits), row)
      requireSampling(actor, changes.sampling ?? row.sampling, row)
      const { sampling } = changes
      const changed = await changeKey(deps.db, id, { limits: limitsPatch(changes.limits), sampling })
      if (!changed) throw unknownKey(id)
      return c.json(keyEntry(changed, deps.nowMs()))
    })
    .delete('/keys/:id', async (c) => {
      const { deps, actor } = c.var
      const id = c.req.param('id')
      const tenant = tenantOf(actor, undefined)
      const row = await findKey(deps.db, id, tenant)
      if (row) requireNotAbove(actor, row)
      if (row && (await revokeKey(deps.db, id, deps.nowMs(), tenant))) return c.json({ id, revoked: true })
      throw unknownKey(id)
    })
}

/** Sends a response that shows a key; no cache may store it. */
function showOnce(c: Context<ActorEnv>, row: KeyRow, key: string, status: 200 | 201): Response {
  c.header('cache-control', 'no-store')
  return c.json({ ...keyEntry(row, c.var.deps.nowMs()), key } satisfies CreatedKey, status)
}

async function newSecret(deps: Pick<Deps, 'keyPepper'>) {
  const { key, prefix } = generateKey()
  return { key, prefix, hash: await pepperedHash(deps.keyPepper, await digestOf(key)) }
}

function expiryOf(iso: string | null | undefined, nowMs: number): number | null {
  if (iso === null || iso === undefined) return null
  const expiresAt = Date.parse(iso)
  if (expiresAt > nowMs) return expiresAt
  throw new AppError(
    'invalid_request',
    `Invalid 'expires_at': ${iso} is in the past. A time in the future is expected.`,
    { param: 'expires_at' },
  )
}

/** @throws AppError `invalid_request` for what is no `next_after` of a page */
function parsePlace(after: string): KeyPlace {
  const [, createdAt, id] = /^(\d{1,15})\.(.+)$/.exec(after) ?? []
  if (createdAt !== undefined && id !== undefined) return { createdAt: Number(createdAt), id }
  throw new AppError(
    'invalid_request',
    "Invalid 'after': expected the `next_after` of a page of this list.",
    {
      param: 'after',
    },
  )
}

async function requireTenant({ db }: Pick<Deps, 'db'>, name: string): Promise<void> {
  if (await hasTenant(db, name)) return
  const nearest = suggestName(name, await listTenantNames(db))
  throw new AppError(
    'invalid_request',
    `There is no tenant '${name}'.${nearest === undefined ? '' : ` Did you mean '${nearest}'?`} ` +
      `'PUT /admin/tenants/${name}' creates it.`,
    { param: 'tenant' },
  )
}

function tooManyKeys(tenant: string): AppError {
  return new AppError(
    'conflict',
    `The tenant '${tenant}' has ${MAX_KEYS_PER_TENANT} keys, the most that its administrators can create. Revoke keys that ` +
      "are not needed with 'DELETE /admin/keys/:id', or ask the operator, who has no such limit.",
  )
}

function unknownKey(id: string): AppError {
  return new AppError(
    'not_found',
    `There is no key '${id}', or it was revoked. 'GET /admin/keys' lists the keys.`,
  )
}

function keyEntry(row: KeyRow, nowMs: number): KeyEntry {
  const { previousUntil } = row
  return {
    id: row.id,
    name: row.name,
    tenant: row.tenant,
    prefix: row.prefix,
    scopes: row.scopes,
    default_domain: row.defaultDomain,
    discover_domains: row.discoverDomains,
    allowed_domains: row.allowedDomains,
    allowed_models: row.allowedModels,
    sampling: row.sampling,
    limits: limitsEntry(row.limits),
    created_at: new Date(row.createdAt).toISOString(),
    expires_at: row.expiresAt === null ? null : new Date(row.expiresAt).toISOString(),
    previous_valid_until:
      previousUntil !== null && previousUntil > nowMs ? new Date(previousUntil).toISOString() : null,
  }
}
