import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { createKey, type CreatedKey, type KeyEntry } from '@copal/shared/wire/admin.ts'
import type { AppEnv } from '../../context.ts'
import { insertKey, listKeys, revokeKey, type KeyRow } from '../../db/queries/keys.ts'
import { generateKey } from '../../middleware/auth.ts'
import { refuseMethod } from '../../middleware/errors.ts'
import { readAdmin } from './body.ts'

/** API keys: made, listed and revoked. */
export function keyRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .post('/keys', async (c) => {
      const { deps } = c.var
      const request = await readAdmin(c, createKey)
      const { key, hash, prefix } = await generateKey()
      const row = {
        id: `key_${crypto.randomUUID().replaceAll('-', '')}`,
        name: request.name,
        hash,
        prefix,
        defaultDomain: request.default_domain,
        sampling: request.sampling,
        createdAt: deps.nowMs(),
      }
      await insertKey(deps.db, row)
      return c.json({ ...keyEntry(row), key } satisfies CreatedKey, 201)
    })
    .get('/keys', async (c) => c.json({ data: (await listKeys(c.var.deps.db)).map(keyEntry) }))
    .all('/keys', refuseMethod('GET', 'POST'))
    .delete('/keys/:id', async (c) => {
      const { deps } = c.var
      const id = c.req.param('id')
      if (await revokeKey(deps.db, id, deps.nowMs())) return c.json({ id, revoked: true })
      throw new AppError(
        'not_found',
        `There is no key '${id}', or it was revoked before. 'GET /admin/keys' lists them.`,
      )
    })
    .all('/keys/:id', refuseMethod('DELETE'))
}

function keyEntry(row: Omit<KeyRow, 'revokedAt'>): KeyEntry {
  return {
    id: row.id,
    name: row.name,
    prefix: row.prefix,
    default_domain: row.defaultDomain,
    sampling: row.sampling,
    created_at: new Date(row.createdAt).toISOString(),
  }
}
