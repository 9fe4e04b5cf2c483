import type * as cog from '@grafana/grafana-foundation-sdk/cog'
import {
  DashboardBuilder,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  VariableRefresh,
  type VariableModel,
} from '@grafana/grafana-foundation-sdk/dashboard'
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus'
import { PanelBuilder as HeatmapBuilder } from '@grafana/grafana-foundation-sdk/heatmap'
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat'
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries'

/** One query of a panel, and how its series are named. */
export interface Query {
  expr: string
  legend: string
  /** Shows exemplars, which link to traces. */
  exemplar?: true
}

/** Options of every panel. `unit` is one of Grafana's ids. */
interface PanelOptions {
  title: string
  description: string
  unit: string
  queries: readonly Query[]
  /** Columns of 24; a third of the width by default. */
  span?: number
}

/** The data source that the reader of a dashboard chooses. */
const PROMETHEUS = { type: 'prometheus', uid: '${prometheus}' }

const HEIGHT = 8
const SPAN = 8

function target({ expr, legend, exemplar }: Query): DataqueryBuilder {
  const query = new DataqueryBuilder().expr(expr).legendFormat(legend).range().datasource(PROMETHEUS)
  return exemplar ? query.exemplar(true) : query
}

/** Creates a panel of series over time. */
export function series({ title, description, unit, queries, span = SPAN }: PanelOptions): TimeseriesBuilder {
  return new TimeseriesBuilder()
    .title(title)
    .description(description)
    .datasource(PROMETHEUS)
    .unit(unit)
    .height(HEIGHT)
    .span(span)
    .fillOpacity(8)
    .targets(queries.map(target))
}

/** Creates a panel with the newest value of each series. */
export function figure({ title, description, unit, queries, span = 4 }: PanelOptions): StatBuilder {
  return new StatBuilder()
    .title(title)
    .description(description)
    .datasource(PROMETHEUS)
    .unit(unit)
    .height(4)
    .span(span)
    .targets(queries.map(target))
}

/** Creates a heat map of the buckets of a histogram over time. */
export function heatmap({ title, description, unit, queries, span = SPAN }: PanelOptions): HeatmapBuilder {
  return new HeatmapBuilder()
    .title(title)
    .description(description)
    .datasource(PROMETHEUS)
    .unit(unit)
    .height(HEIGHT)
    .span(span)
    .targets(queries.map((query) => target(query).format(PromQueryFormat.Heatmap)))
}

/** Creates a variable whose values are those of a label; all of them at first. */
export function labelVariable(name: string, metric: string): cog.Builder<VariableModel> {
  return new QueryVariableBuilder(name)
    .label(name)
    .datasource(PROMETHEUS)
    .query(`label_values(${metric}, ${name})`)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .includeAll(true)
    .multi(true)
    .allValue('.*')
    .current({ selected: true, text: 'All', value: '$__all' })
}

/** Creates a dashboard without panels, over the last six hours in the reader's time zone. */
export function dashboard(uid: string, title: string, description: string): DashboardBuilder {
  return new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(['copal'])
    .refresh('30s')
    .time({ from: 'now-6h', to: 'now' })
    .timezone('browser')
    .readonly()
    .withVariable(new DatasourceVariableBuilder('prometheus').label('Data source').type('prometheus'))
}
