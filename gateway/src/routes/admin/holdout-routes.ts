import { Hono } from 'hono'
import { importTexts } from '@copal/shared/wire/admin-domains.ts'
import type { GeneralHoldout } from '@copal/shared/wire/admin-holdout.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import {
  deleteGeneralHoldout,
  findGeneralHoldout,
  setGeneralHoldout,
} from '../../adaptation/holdouts/general-holdout.ts'
import { estimateTokens } from '../../adaptation/holdouts/holdout-rules.ts'
import type { HoldoutRow } from '../../storage/db/queries/holdout-queries.ts'
import { readAdminBody } from './admin-body.ts'

/** As of an import of texts. */
const MAX_BODY_BYTES = 4 * 1024 * 1024

/** Creates the routes that set, show and delete the general holdout. */
export function holdoutRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/holdout', async (c) => c.json(report(await findGeneralHoldout(c.var.deps))))
    .put('/holdout', async (c) => {
      const { texts } = await readAdminBody(c, importTexts, MAX_BODY_BYTES)
      return c.json(report(await setGeneralHoldout(c.var.deps, texts)))
    })
    .delete('/holdout', async (c) => {
      await deleteGeneralHoldout(c.var.deps)
      return c.json(report(undefined))
    })
}

function report(row: HoldoutRow | undefined): GeneralHoldout {
  if (!row) return { holdout: null }
  const { version, sha256, samples, characters, createdAt } = row
  return {
    holdout: {
      version,
      sha256,
      texts: samples,
      characters,
      tokens: estimateTokens(characters),
      created_at: new Date(createdAt).toISOString(),
    },
  }
}
