import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { formatModelName } from '@copal/shared/wire/model-name.ts'
import type { ModelEntry, ModelList } from '@copal/shared/wire/model-list.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import type { KeyRow } from '../../contracts/api-key.ts'
import type { DomainOwners } from '../../contracts/domain-owners.ts'
import { listMaskVersions } from '../../storage/db/queries/mask-queries.ts'
import { listServedModels, type ServedModel } from '../../storage/db/queries/model-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { heldVersions } from '../../fleet/object/held-versions.ts'

/** Creates `GET /v1/models` and `GET /v1/models/:id`; mount them at `/v1/models` behind `requireKey`. */
export function modelRoutes(): Hono<KeyedEnv> {
  return new Hono<KeyedEnv>()
    .get('/', async (c) => c.json({ object: 'list', data: await listEntries(c.var) } satisfies ModelList))
    .get('/:id', async (c) => {
      const entries = await listEntries(c.var)
      const id = c.req.param('id')
      const entry = entries.find((candidate) => candidate.id === id)
      if (entry) return c.json(entry)
      const available = entries.map((candidate) => `'${candidate.id}'`).join(', ') || 'none yet'
      throw new AppError(
        'model_not_found',
        `The model '${id}' does not exist. Available models: ${available}.`,
        { param: 'model' },
      )
    })
}

/**
 * Lists the models that the key may use, each followed by the mask versions that a request can name now. Hides models
 * and domains that the key may not use, and domains that another tenant owns: their names may be made of its texts, and their
 * own masks are selected by them.
 */
async function listEntries({
  deps,
  domainOwners,
  key: { tenant, allowedModels, allowedDomains },
}: {
  deps: Deps
  domainOwners: DomainOwners
  key: KeyRow
}): Promise<ModelEntry[]> {
  const [all, fleet, ofOthers] = await Promise.all([
    listServedModels(deps.db),
    deps.fleet.snapshot(),
    domainOwners.ofOthers(deps, tenant),
  ])
  const served = all
    .filter(({ model }) => allowedModels?.includes(model.id) ?? true)
    .map((entry) => ({ ...entry, held: heldVersions(fleet, entry.model.id) }))
  const versions = new Set(served.flatMap(({ held }) => [...held.keys()]))
  versions.delete(0)
  const masks = await listMaskVersions(deps.db, [...versions])
  const isVisible = (domain: string) =>
    !ofOthers.includes(domain) && (allowedDomains?.includes(domain) ?? true)
  const entryOf = ({ model, mask }: ServedModel, ...rest: [id: string, version: number, nodes: number]) =>
    toEntry({ model, mask: mask && { ...mask, domains: mask.domains.filter(isVisible) } }, ...rest)
  return served.flatMap(({ model, mask, held }) => {
    const serving = fleet.nodes.filter((node) => node.serving && node.model === model.id).length
    const named = [...held].flatMap(([version, nodes]) => {
      const own = masks.find((row) => row.model === model.id && row.version === version) ?? null
      // A node may still hold a version that this gateway's database does not know, from an earlier installation.
      if (version !== 0 && !own) return []
      if (ofOthers.includesWeights({ id: model.id, version })) return []
      return [entryOf({ model, mask: own }, formatModelName(model.id, version), version, nodes)]
    })
    return [entryOf({ model, mask }, model.id, model.activeVersion, serving), ...named]
  })
}

function toEntry({ model, mask }: ServedModel, id: string, version: number, nodes: number): ModelEntry {
  return {
    id,
    object: 'model',
    created: Math.floor(model.createdAt / 1000),
    owned_by: 'copal',
    copal: {
      mask_version: version,
      sparsity: mask?.sparsity ?? 0,
      method: mask?.method ?? null,
      pattern: mask?.pattern ?? null,
      domains: mask?.domains ?? [],
      context_length: model.contextLength,
      nodes,
    },
  }
}
