/** The place of a linear in a model. */
export interface LinearPlace {
  layer: number
  /** Like `q_proj` or `down_proj`. */
  kind: string
}

/** Parses the name of a weight, like `model.layers.3.self_attn.q_proj.weight`; a linear outside the layers is of layer 0. */
export function parseLinearName(name: string): LinearPlace {
  const parts = name.replace(/\.weight$/, '').split('.')
  const layer = /\.layers\.(\d{1,6})\./.exec(name)?.[1]
  return { layer: Number(layer ?? 0), kind: parts.at(-1) ?? name }
}

/** Orders linears by layer, and in a layer by kind. */
export function byPlace(a: LinearPlace, b: LinearPlace): number {
  return a.layer - b.layer || (a.kind < b.kind ? -1 : Number(a.kind > b.kind))
}
