import { Hono, type Context } from 'hono'
import { z } from 'zod'
import { AppError } from '@copal/shared/errors.ts'
import { masksQuery, rollback, type ImportedMask, type MaskEntry } from '@copal/shared/wire/admin.ts'
import { importMask } from '@copal/shared/wire/mask-import.ts'
import { joinMaskParts } from '@copal/shared/wire/mask-parts.ts'
import type { Page } from '@copal/shared/wire/paging.ts'
import { sha256Hex } from '@copal/shared/wire/identifiers.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { actorId } from '../../keys/actor-id.ts'
import type { Database } from '../../contracts/database.ts'
import { findMask, listMasks, type MaskRow } from '../../storage/db/queries/mask-queries.ts'
import { setPinned } from '../../storage/db/queries/sweep-queries.ts'
import { claimFile } from '../../storage/artifacts/file-claims.ts'
import { storeMaskFile } from '../../storage/artifacts/mask-files.ts'
import { maskEntry } from '../../adaptation/masks/mask-entry.ts'
import { importMaskFile } from '../../adaptation/masks/import-mask-file.ts'
import { joinMaskFile, storeMaskPart } from '../../storage/artifacts/mask-parts.ts'
import { maskKey } from '../../storage/artifacts/artifact-keys.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { beginInRequest } from '../../adaptation/updates/update-requests.ts'
import { rollBack } from '../../adaptation/updates/mask-rollback.ts'
import { readAdminBody } from './admin-body.ts'
import { nameMask, parseMaskVersion } from './mask-version.ts'

const maskPath = z.object({ sha256: sha256Hex })
const partPath = z.object({ sha256: sha256Hex, part: sha256Hex })

/** Creates the routes that list masks, download and import their files, and roll back to an earlier mask. */
export function maskRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/masks', async (c) => {
      const { db } = c.var.deps
      const { model: id, limit, after: before } = validate(masksQuery, c.req.query())
      const model = await findOperatorModel(db, id)
      const rows = await listMasks(db, model.id, { before, limit })
      const next_after = rows.length < limit ? null : String(rows.at(-1)?.version)
      return c.json({
        data: rows.map((mask) => maskEntry(model, mask)),
        next_after,
      } satisfies Page<MaskEntry>)
    })
    .get('/masks/:version/file', async (c) => {
      const { db, artifacts } = c.var.deps
      const model = await findOperatorModel(db, c.req.query('model'))
      const mask = await findNamedMask(db, model.id, c.req.param('version'))
      const object = mask && (await artifacts.get(maskKey(mask.sha256)))
      if (!mask || !object) {
        throw new AppError(
          'not_found',
          `'${model.id}' has no mask file ${nameMask(c.req.param('version'))}. 'GET /admin/masks' lists the masks.`,
        )
      }
      return new Response(object.body, {
        headers: {
          'content-type': 'application/octet-stream',
          'content-length': String(object.size),
          'content-disposition': `attachment; filename="${model.id}-m${mask.version}.safetensors"`,
          etag: `"${mask.sha256}"`,
        },
      })
    })
    .put('/masks/:sha256', async (c) => {
      const { sha256 } = validate(maskPath, c.req.param())
      const request = validate(importMask, c.req.query())
      const imported = await importMaskFile(c.var.deps, sha256, request, {
        store: () => storeMaskFile(c.var.deps, sha256, c.req.raw),
        actor: actorId(c.var.deps, c.var.actor),
      })
      return c.json(beginImported(c.var.deps, imported), 201)
    })
    .post('/masks/:sha256', async (c) => {
      const { sha256 } = validate(maskPath, c.req.param())
      const request = validate(importMask, c.req.query())
      const { parts } = await readAdminBody(c, joinMaskParts)
      const imported = await importMaskFile(c.var.deps, sha256, request, {
        store: () => joinMaskFile(c.var.deps, sha256, parts),
        actor: actorId(c.var.deps, c.var.actor),
      })
      return c.json(beginImported(c.var.deps, imported), 201)
    })
    .put('/masks/:sha256/parts/:part', async (c) => {
      const { sha256, part } = validate(partPath, c.req.param())
      await storeMaskPart(c.var.deps.artifacts, sha256, part, c.req.raw)
      return c.json({ sha256: part }, 201)
    })
    .put('/masks/:version/pin', async (c) => c.json(await pin(c, true)))
    .delete('/masks/:version/pin', async (c) => c.json(await pin(c, false)))
    .post('/rollback', async (c) => {
      const request = await readAdminBody(c, rollback)
      const { deps, actor } = c.var
      return c.json({ active_version: await rollBack(deps, request, actorId(deps, actor)) })
    })
}

/** Finds the mask of a path like `m3`; the dense model is none. */
async function findNamedMask(db: Database, modelId: string, named: string): Promise<MaskRow | undefined> {
  const version = parseMaskVersion(named)
  return version ? findMask(db, modelId, version) : undefined
}

/** Pins a mask, or ends that. Pinning keeps a file that is not deleted yet. */
async function pin(c: Context<ActorEnv>, pinned: boolean): Promise<MaskEntry> {
  const { deps } = c.var
  const { db, artifacts } = deps
  const model = await findOperatorModel(db, c.req.query('model'))
  const named = c.req.param('version') ?? ''
  const mask = await findNamedMask(db, model.id, named)
  if (!mask) {
    const message = `'${model.id}' has no mask ${nameMask(named)}. 'GET /admin/masks' lists the masks.`
    throw new AppError('not_found', message)
  }
  if (pinned) await claimFile(deps, maskKey(mask.sha256))
  if (pinned && !(await artifacts.head(maskKey(mask.sha256)))) {
    throw new AppError('conflict', `The file of mask m${mask.version} of '${model.id}' was deleted already.`)
  }
  await setPinned(db, mask, pinned)
  return maskEntry(model, { ...mask, pinned, sweptAt: pinned ? null : mask.sweptAt })
}

/** Starts the update that evaluates an imported mask, if there is one. */
function beginImported(
  deps: Deps,
  { model, mask, update }: Awaited<ReturnType<typeof importMaskFile>>,
): ImportedMask {
  if (!update) return maskEntry(model, mask)
  if (update.isNew) deps.waitUntil(beginInRequest(deps, update.id))
  return { ...maskEntry(model, mask), update: update.id }
}
