/**
 * Only forwards requests, to measure the cost of the runtime itself. With `ASK` it first calls a Durable Object, as a
 * gateway with global limits must.
 */
import { DurableObject } from 'cloudflare:workers'

export class Counter extends DurableObject {
  #count = 0

  add() {
    this.#count += 1
    return this.#count
  }
}

export default {
  async fetch(request, env) {
    if (env.ASK) await env.COUNTER.getByName('one').add()
    return env.NETWORK.fetch(env.UPSTREAM + new URL(request.url).pathname, request)
  },
}
