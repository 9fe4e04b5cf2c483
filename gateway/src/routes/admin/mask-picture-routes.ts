import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { MaskChurn, MaskLinears } from '@copal/shared/wire/admin-mask-linears.ts'
import { compareMasks, type ComparedMask } from '../../adaptation/masks/mask-churn.ts'
import { listMaskLinears } from '../../adaptation/masks/mask-linears.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { findStoredHeader } from '../../storage/artifacts/mask-files.ts'
import { findMask } from '../../storage/db/queries/mask-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { storeLatest } from '../../runtime/bounded-map.ts'
import { nameMask, parseMaskVersion } from './mask-version.ts'

/** Comparisons of masks that an isolate keeps; a file never changes, so neither does its comparison. */
const MAX_COMPARISONS = 64
const UNCHANGING = 'private, max-age=86400'

/** Creates the routes that show the sparsity of a mask's linears, and the difference between two masks. */
export function maskPictureRoutes(): Hono<ActorEnv> {
  const comparisons = new Map<string, Pick<MaskChurn, 'churn' | 'linears'>>()
  return new Hono<ActorEnv>()
    .get('/masks/:version/linears', async (c) => {
      const { deps } = c.var
      const model = await findOperatorModel(deps.db, c.req.query('model'))
      const { version, mask } = await findCompared(deps, model, c.req.param('version'))
      c.header('cache-control', UNCHANGING)
      const linears = mask ? listMaskLinears(mask.header) : []
      return c.json({ model: model.id, version, linears } satisfies MaskLinears)
    })
    .get('/masks/:version/churn/:other', async (c) => {
      const { deps } = c.var
      const model = await findOperatorModel(deps.db, c.req.query('model'))
      const first = await findCompared(deps, model, c.req.param('version'))
      const second = await findCompared(deps, model, c.req.param('other'))
      // Neither file contains the other's name, and which comes first does not matter.
      const key = [first, second]
        .map(({ mask }) => mask?.sha256 ?? 'dense')
        .toSorted((a, b) => (a < b ? -1 : 1))
        .join(' ')
      const compared = comparisons.get(key) ?? (await compareMasks(deps.artifacts, first.mask, second.mask))
      storeLatest(comparisons, key, compared, MAX_COMPARISONS)
      c.header('cache-control', UNCHANGING)
      return c.json({
        model: model.id,
        version: first.version,
        other: second.version,
        ...compared,
      } satisfies MaskChurn)
    })
}

/** @throws AppError `not_found` for a version without a file */
async function findCompared(
  { db, artifacts }: Pick<Deps, 'db' | 'artifacts'>,
  model: ModelRow,
  text: string,
): Promise<{ version: number; mask: ComparedMask }> {
  const version = parseMaskVersion(text)
  if (version === 0) return { version, mask: null }
  const mask = version === undefined ? undefined : await findMask(db, model.id, version)
  const header = mask && (await findStoredHeader(artifacts, mask.sha256))
  if (mask && header) return { version: mask.version, mask: { sha256: mask.sha256, header } }
  throw new AppError(
    'not_found',
    `'${model.id}' has no mask file ${nameMask(text)}. 'GET /admin/masks' lists the masks; files that nothing needs are deleted.`,
  )
}
