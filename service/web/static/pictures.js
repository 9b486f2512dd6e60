// Pictures of a study: fetched once, kept while there is room, the newest wish first.

const MOST_BYTES = 384 * 1024 * 1024;

export class Gone extends Error {}

// What one study's pictures are fetched from. base: of the study's address; token: its state when the page was drawn.
export class Pictures {
  constructor(base, token) {
    this.base = base;
    this.token = token;
    this.kept = new Map();
    this.bytes = 0;
  }

  // A picture: values (Int16Array) and marks (Uint8Array, or null where nothing is marked).
  get(stack, plane, index, withMarks) {
    const key = `${stack}/${plane}/${index}`;
    const kept = this.kept.get(key);
    if (kept) {
      this.kept.delete(key);
      this.kept.set(key, kept);
      return kept;
    }
    const asked = Promise.all([
      this.fetch("pixels", key).then((buffer) => new Int16Array(buffer)),
      withMarks ? this.fetch("marks", key).then((buffer) => (buffer.byteLength ? new Uint8Array(buffer) : null)) : null,
    ]).then(([values, marks]) => {
      this.bytes += values.byteLength + (marks ? marks.byteLength : 0);
      this.makeRoom(key);
      return { values, marks };
    });
    this.kept.set(key, asked);
    asked.catch(() => this.kept.delete(key));
    return asked;
  }

  async fetch(what, key) {
    const answer = await fetch(`${this.base}/${what}/${this.token}/${key}`);
    if (answer.status === 409) throw new Gone("The study has changed.");
    if (!answer.ok) throw new Error((await answer.text()).match(/<p>(.*?)<\/p>/)?.[1] || `No picture (${answer.status}).`);
    return answer.arrayBuffer();
  }

  makeRoom(newest) {
    for (const [key, asked] of this.kept) {
      if (this.bytes <= MOST_BYTES) return;
      if (key === newest) continue;
      this.kept.delete(key);
      asked.then(({ values, marks }) => { this.bytes -= values.byteLength + (marks ? marks.byteLength : 0); });
    }
  }
}

// Runs one task after the other; of those that wait, only the newest.
export class Newest {
  constructor() {
    this.waiting = null;
    this.busy = false;
  }

  async run(task) {
    this.waiting = task;
    if (this.busy) return;
    this.busy = true;
    while (this.waiting) {
      const next = this.waiting;
      this.waiting = null;
      await next();
    }
    this.busy = false;
  }
}
