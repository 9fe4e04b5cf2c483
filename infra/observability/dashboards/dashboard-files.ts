import { adaptationDashboard } from './adaptation-dashboard.ts'
import { nodeDashboard } from './node-dashboard.ts'
import { serviceDashboard } from './service-dashboard.ts'

/** The folder of the generated files, relative to this one. */
export const DASHBOARD_FOLDER = new URL('../grafana/dashboards/', import.meta.url)

/** Returns the dashboards as the files that Grafana is provisioned with, by name. */
export function dashboardFiles(): Map<string, string> {
  const dashboards = [serviceDashboard(), adaptationDashboard(), nodeDashboard()]
  return new Map(
    dashboards.map((builder) => {
      const built = builder.build()
      return [`${built.uid}.json`, `${JSON.stringify(built, null, 2)}\n`]
    }),
  )
}
