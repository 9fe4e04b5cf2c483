import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'

/** The folder with rules, dashboards and configurations. */
export const OBSERVABILITY = new URL('../../../infra/observability/', import.meta.url)
const RULES = new URL('prometheus/rules/', OBSERVABILITY)

/** The paths of the files with rules. */
export const RULE_FILES = readdirSync(RULES).map((name) => fileURLToPath(new URL(name, RULES)))

/** A query of a dashboard, and where it is. */
export interface DashboardQuery {
  panel: string
  expr: string
}

const panel: z.ZodType<{ title?: string | undefined; targets?: { expr: string }[] | undefined }> = z.object({
  title: z.string().optional(),
  targets: z.array(z.object({ expr: z.string() })).optional(),
})
const dashboard = z.object({
  uid: z.string(),
  panels: z.array(panel),
  templating: z.object({ list: z.array(z.object({ name: z.string(), query: z.unknown().optional() })) }),
})

/** Returns every query of a dashboard, those of its variables among them, as Grafana sends it with all values selected. */
export function queriesOf(json: string): DashboardQuery[] {
  const { uid, panels, templating } = dashboard.parse(JSON.parse(json))
  const ofPanels = panels.flatMap(({ title = '', targets = [] }) =>
    targets.map(({ expr }) => ({ panel: `${uid}: ${title}`, expr: filled(expr) })),
  )
  const ofVariables = templating.list.flatMap(({ name, query }) => {
    const [, metric] = /^label_values\((.*), \w+\)$/.exec(String(query)) ?? []
    return metric === undefined ? [] : [{ panel: `${uid}: variable ${name}`, expr: metric }]
  })
  return [...ofPanels, ...ofVariables]
}

/** Replaces Grafana's variables. */
function filled(expr: string): string {
  return expr.replaceAll('$__rate_interval', '1m').replaceAll(/\$(model|domain|instance)/g, '.*')
}

/** A rule of a file: an alert has a name, a recording rule records a series. */
export interface Rule {
  name: string
  kind: 'alert' | 'record'
  expr: string
}

/** Reads the rules of all files. They are YAML of one shape, in which each rule begins with `- alert:` or `- record:`. */
export function readRules(): Rule[] {
  return RULE_FILES.flatMap((path) =>
    readFileSync(path, 'utf8')
      .split(/^ {6}- /m)
      .slice(1)
      .map((text): Rule => {
        const [, kind, name] = /^(alert|record): (\S+)$/m.exec(text) ?? []
        const [, inline = '', block = ''] =
          /^ {8}expr: (?:\||(.*))\n((?: {10}.*\n| {10,}.*\n)*)/m.exec(text) ?? []
        if (kind === undefined || name === undefined || `${inline}${block}` === '')
          throw new Error(`a rule has another shape: ${text}`)
        return { name, kind: kind === 'alert' ? 'alert' : 'record', expr: inline || block }
      }),
  )
}
