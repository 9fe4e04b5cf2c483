import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { overviewReport, type OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { modelQuery } from './mask-argument.ts'
import type { ApiClient } from '../api/api-client.ts'

/** Returns the overview of a model for a command that shows more with it; undefined where the gateway has none. */
export async function findOverview(
  client: ApiClient,
  model: string | undefined,
): Promise<OverviewReport | undefined> {
  try {
    return await client.admin('GET', `/overview${modelQuery(model)}`, overviewReport)
  } catch (error) {
    if (error instanceof UserError) return undefined
    throw error
  }
}
