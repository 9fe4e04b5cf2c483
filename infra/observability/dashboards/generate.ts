/** Writes the dashboards to `grafana/dashboards`: `node infra/observability/dashboards/generate.ts`. */
import { writeFileSync } from 'node:fs'
import { DASHBOARD_FOLDER, dashboardFiles } from './dashboard-files.ts'

for (const [name, content] of dashboardFiles()) writeFileSync(new URL(name, DASHBOARD_FOLDER), content)
