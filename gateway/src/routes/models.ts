import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { ModelEntry, ModelList } from '@copal/shared/wire/models.ts'
import type { KeyedEnv } from '../context.ts'
import type { KeyRow } from '../db/queries/keys.ts'
import { listServedModels, type ServedModel } from '../db/queries/models.ts'
import type { Deps } from '../deps.ts'
import { refuseMethod } from '../middleware/errors.ts'

/** `GET /v1/models` and `GET /v1/models/:id`, mounted at `/v1/models` behind `requireKey`. */
export function modelRoutes(): Hono<KeyedEnv> {
  return new Hono<KeyedEnv>()
    .get('/', async (c) =>
      c.json({ object: 'list', data: await listEntries(c.var.deps, c.var.key) } satisfies ModelList),
    )
    .all('/', refuseMethod('GET'))
    .get('/:id', async (c) => {
      const entries = await listEntries(c.var.deps, c.var.key)
      const id = c.req.param('id')
      const entry = entries.find((candidate) => candidate.id === id)
      if (entry) return c.json(entry)
      const served = entries.map((candidate) => `'${candidate.id}'`).join(', ') || 'no model yet'
      throw new AppError('model_not_found', `The model '${id}' does not exist. Served here: ${served}.`, {
        param: 'model',
      })
    })
    .all('/:id', refuseMethod('GET'))
}

/** Models that the key may use; it does not hear of others. */
async function listEntries(deps: Deps, { allowedModels }: KeyRow): Promise<ModelEntry[]> {
  const [served, { nodes }] = await Promise.all([listServedModels(deps.db), deps.fleet.snapshot()])
  return served
    .filter(({ model }) => allowedModels?.includes(model.id) ?? true)
    .map((entry) =>
      toEntry(entry, nodes.filter((node) => node.serving && node.model === entry.model.id).length),
    )
}

function toEntry({ model, mask }: ServedModel, nodes: number): ModelEntry {
  return {
    id: model.id,
    object: 'model',
    created: Math.floor(model.createdAt / 1000),
    owned_by: 'copal',
    copal: {
      mask_version: model.activeVersion,
      sparsity: mask?.sparsity ?? 0,
      method: mask?.method ?? null,
      pattern: mask?.pattern ?? null,
      domains: mask?.domains ?? [],
      context_length: model.contextLength,
      nodes,
    },
  }
}
