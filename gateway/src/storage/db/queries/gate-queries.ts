import {
  and,
  countDistinct,
  desc,
  eq,
  getTableColumns,
  inArray,
  isNotNull,
  isNull,
  ne,
  or,
  sql,
} from 'drizzle-orm'
import type { GenerationCheck } from '@copal/shared/wire/adaptation-jobs.ts'
import type { UpdateState } from '@copal/shared/wire/admin.ts'
import type { Database } from '../../../contracts/database.ts'
import { decisions, evaluations, masks } from '../schema/masks.ts'
import { jobs, updates } from '../schema/updates.ts'
import type { DecisionRow } from './decision-queries.ts'
import type { EvaluationRow } from './evaluation-queries.ts'
import { isAmong } from './is-among.ts'
import type { UpdateRow } from './update-queries.ts'

/** An evaluation, and whether its mask is a stage: it was active and is not rolled back. The dense model is none. */
export type GateCell = EvaluationRow & { isStage: boolean }

const ofMask = (...states: UpdateState[]) =>
  sql`exists (
    select 1 from ${updates} where ${updates.model} = ${masks.model} and ${updates.maskVersion} = ${masks.version}
      and ${inArray(updates.state, states)}
  )`

// A mask that was imported before imports had updates has none. One that was imported twice may have one of each state.
const isStage = sql`(${masks.promotedAt} is not null and (${ofMask('promoted', 'promoting')} or not ${ofMask('rolled_back')}))`

/** Returns the evaluations of a model's masks on some holdout versions. */
export async function listCellsOn(
  db: Database,
  model: string,
  holdouts: readonly string[],
): Promise<GateCell[]> {
  return db
    .select({
      ...getTableColumns(evaluations),
      isStage: isStage.mapWith(Boolean),
    })
    .from(evaluations)
    .leftJoin(masks, and(eq(masks.model, evaluations.model), eq(masks.version, evaluations.version)))
    .where(and(eq(evaluations.model, model), isAmong(evaluations.holdoutSha256, holdouts)))
}

/** The mean loss of a stage on one version of a holdout, and the hash of its mask, whose file is stored. */
export type StageLoss = Omit<EvaluationRow, 'windowNll' | 'model' | 'tokens'> & { mask: string }

/** Returns the mean losses of a model's stages whose files are stored, on every version of the holdouts of some domains. */
export async function listStageLosses(
  db: Database,
  model: string,
  domains: readonly string[],
): Promise<StageLoss[]> {
  const { version, domain, holdoutSha256, nllMean, numerics, createdAt } = evaluations
  return db
    .select({ version, domain, holdoutSha256, nllMean, numerics, createdAt, mask: masks.sha256 })
    .from(evaluations)
    .innerJoin(masks, and(eq(masks.model, evaluations.model), eq(masks.version, evaluations.version)))
    .where(and(eq(evaluations.model, model), isAmong(domain, domains), isNull(masks.sweptAt), isStage))
}

/** A mask and a version of a holdout, by their hashes. */
export interface MaskHoldout {
  mask: string
  sha256: string
}

/** Returns the masks and holdouts of the ended jobs that evaluated the best earlier masks, of `times` or more jobs. */
export async function listEndedBest(db: Database, model: string, times: number): Promise<MaskHoldout[]> {
  return db.all<MaskHoldout>(sql`
    select ${jobs.payload} ->> '$.mask' mask, holdout.value ->> '$.sha256' sha256
    from ${jobs}, json_each(${jobs.payload}, '$.holdouts') holdout
    where ${jobs.model} = ${model} and ${inArray(jobs.state, ['done', 'failed'])} and ${jobs.id} glob '*-best*'
    group by 1, 2 having count(*) >= ${times}`)
}

/** Returns what the dense model generated when it was last checked; undefined if it never was. */
export async function findDenseGeneration(db: Database, model: string): Promise<GenerationCheck | undefined> {
  const generation = sql`json_extract(${jobs.result}, '$.generation')`
  const row = await db
    .select({ result: jobs.result })
    .from(jobs)
    .where(
      and(
        eq(jobs.model, model),
        eq(jobs.kind, 'evaluate'),
        eq(jobs.state, 'done'),
        sql`json_extract(${jobs.payload}, '$.mask') is null`,
        isNotNull(generation),
      ),
    )
    .orderBy(desc(jobs.createdAt))
    .limit(1)
    .get()
  return row?.result?.kind === 'evaluate' ? row.result.generation : undefined
}

/** Returns whether the gate has passed a mask, in any update. */
export async function hasPassedGate(db: Database, model: string, maskVersion: number): Promise<boolean> {
  const passed = and(
    eq(decisions.model, model),
    eq(decisions.maskVersion, maskVersion),
    eq(decisions.kind, 'gate'),
    eq(decisions.verdict, 'passed'),
  )
  return (await db.$count(decisions, passed)) > 0
}

/**
 * Returns how many candidates were compared with a mask by a bound, apart from one. Those of a mask for one domain alone are counted
 * by that domain, with the one that served the domain when the shared mask became active: it was judged anew by a decision of that
 * one's update. Those of shared masks are counted by themselves.
 */
export async function countCandidates(
  db: Database,
  { model, parentVersion, ownDomain }: Pick<UpdateRow, 'model' | 'parentVersion' | 'ownDomain'>,
  exceptVersion: number,
): Promise<number> {
  const isBounded = sql`exists (select 1 from json_each(${decisions.figures}) where value ->> 'upper' is not null)`
  const isOfDomain = sql`exists (select 1 from json_each(${decisions.figures}) where value ->> 'domain' = ${ownDomain})`
  const ofParent = eq(updates.parentVersion, parentVersion ?? 0)
  const isCompared =
    ownDomain === null
      ? and(ofParent, isNull(updates.ownDomain), eq(decisions.kind, 'gate'))
      : and(
          eq(decisions.kind, 'own_mask'),
          or(
            and(ofParent, eq(updates.ownDomain, ownDomain)),
            and(eq(updates.maskVersion, parentVersion ?? 0), isNull(updates.ownDomain), isOfDomain),
          ),
        )
  const row = await db
    .select({ candidates: countDistinct(decisions.maskVersion) })
    .from(updates)
    .innerJoin(decisions, eq(decisions.updateId, updates.id))
    .where(and(eq(updates.model, model), isCompared, ne(decisions.maskVersion, exceptVersion), isBounded))
    .get()
  return row?.candidates ?? 0
}

/** Returns the gate's last decision about a mask of an update. */
export async function findGateDecision(
  db: Database,
  updateId: string,
  maskVersion: number,
): Promise<DecisionRow | undefined> {
  return db
    .select()
    .from(decisions)
    .where(
      and(
        eq(decisions.updateId, updateId),
        eq(decisions.maskVersion, maskVersion),
        eq(decisions.kind, 'gate'),
      ),
    )
    .orderBy(desc(decisions.id))
    .limit(1)
    .get()
}
