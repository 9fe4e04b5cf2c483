import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'

/** Prefixes of the paths whose responses a new overview shows to be out of date. */
export function outOfDate(before: OverviewReport | undefined, after: OverviewReport): string[] {
  if (!before) return []
  const prefixes = new Set<string>()
  const note = (isChanged: boolean, ...changed: string[]) => {
    if (isChanged) for (const prefix of changed) prefixes.add(prefix)
  }
  note(
    before.decisions[0]?.created_at !== after.decisions[0]?.created_at ||
      before.model.active_version !== after.model.active_version,
    '/admin/updates',
    '/admin/masks',
    '/admin/triggers',
    '/admin/series',
    '/admin/drift',
    '/admin/canary',
    '/admin/domains',
  )
  note(progressOf(before) !== progressOf(after), '/admin/updates')
  note(statesOf(before) !== statesOf(after), '/admin/triggers')
  note(nodesOf(before) !== nodesOf(after), '/admin/nodes', '/admin/status')
  note(alertsOf(before) !== alertsOf(after), '/admin/alerts', '/admin/detectors', '/admin/series')
  return [...prefixes]
}

function progressOf({ updates }: OverviewReport): string {
  return updates.map(({ id, state, progress }) => `${id} ${state} ${progress}`).join()
}

function statesOf({ updates }: OverviewReport): string {
  return updates.map(({ id, state }) => `${id} ${state}`).join()
}

function nodesOf({ nodes }: OverviewReport): string {
  return nodes
    .map(({ id, alive, draining, active_version }) => [id, alive, draining, active_version].join(' '))
    .join()
}

function alertsOf({ alerts }: OverviewReport): string {
  return alerts.map(({ id }) => id).join()
}
