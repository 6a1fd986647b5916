/* What a program does with hiredis: hiredis PORT BEHIND. */
#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static int port, behind_port;
static redisContext *near_by, *behind;

static redisContext *connect_to(int to) {
    struct timeval limit = {20, 0};
    redisContext *context = redisConnectWithTimeout("127.0.0.1", to, limit);
    if (context == NULL || context->err) {
        fprintf(stderr, "connect: %s\n", context ? context->errstr : "no memory");
        exit(1);
    }
    redisSetTimeout(context, limit);
    return context;
}

static void show(const redisReply *reply) {
    if (reply == NULL) {
        printf("(nothing)");
        return;
    }
    switch (reply->type) {
    case REDIS_REPLY_STRING:
        if (reply->len > 1000) {
            printf("(%zu bytes)", (size_t)reply->len);
            break;
        }
        putchar('"');
        for (size_t at = 0; at < (size_t)reply->len; at++) {
            unsigned char byte = (unsigned char)reply->str[at];
            if (byte >= ' ' && byte <= '~') putchar(byte);
            else printf("\\x%02x", byte);
        }
        putchar('"');
        break;
    case REDIS_REPLY_STATUS: printf("+%s", reply->str); break;
    case REDIS_REPLY_ERROR: printf("-%s", reply->str); break;
    case REDIS_REPLY_INTEGER: printf(":%lld", reply->integer); break;
    case REDIS_REPLY_NIL: printf("(nil)"); break;
    case REDIS_REPLY_ARRAY:
        putchar('[');
        for (size_t at = 0; at < reply->elements; at++) {
            if (at) printf(", ");
            show(reply->element[at]);
        }
        putchar(']');
        break;
    default: printf("(type %d)", reply->type);
    }
}

static void say(const char *what, redisContext *context, redisReply *reply) {
    printf("%s: ", what);
    if (reply == NULL) printf("error %d, %s", context->err, context->errstr);
    else show(reply);
    putchar('\n');
    fflush(stdout);
    if (reply) freeReplyObject(reply);
}

/* One command, and what comes of it. */
static void run(redisContext *context, const char *format, ...) {
    va_list words;
    va_start(words, format);
    redisReply *reply = redisvCommand(context, format, words);
    va_end(words);
    say(format, context, reply);
}

/* Asks until the answer contains the text. */
static void eventually(redisContext *context, const char *text, const char *command) {
    for (int times = 0; times < 10000; times++) {
        redisReply *reply = redisCommand(context, command);
        int found = reply != NULL && reply->str != NULL && strstr(reply->str, text) != NULL;
        if (reply) freeReplyObject(reply);
        if (found) {
            printf("eventually: %s\n", text);
            return;
        }
        usleep(2000);
    }
    fprintf(stderr, "waited in vain for %s\n", text);
    exit(1);
}

static void next(redisContext *context, const char *what) {
    void *reply = NULL;
    redisGetReply(context, &reply);
    say(what, context, reply);
}

static void options(void) {
    run(behind, "ACL SETUSER app on >secret ~app:* +@all");
    redisContext *app = connect_to(port);
    run(app, "AUTH app wrong");
    run(app, "AUTH app secret");
    run(app, "ACL WHOAMI");
    run(app, "SET app:1 a");
    run(app, "GET app:1");
    run(app, "GET app:1");
    run(app, "GET s");
    run(app, "CLIENT SETNAME mine");
    run(app, "CLIENT GETNAME");
    run(app, "SELECT 3");
    run(app, "GET app:1");
    run(app, "SELECT 99");
    run(app, "RESET");
    run(app, "ACL WHOAMI");
    redisFree(app);
    redisContext *hasty = connect_to(port);
    struct timeval soon = {0, 100000};
    redisSetTimeout(hasty, soon);
    run(hasty, "BLPOP nothing 5");
    redisFree(hasty);
}

static void values(void) {
    unsigned char bytes[256];
    for (int at = 0; at < 256; at++) bytes[at] = (unsigned char)at;
    run(near_by, "SET %b %b", bytes, (size_t)256, bytes, (size_t)256);
    run(near_by, "GET %b", bytes, (size_t)256);
    run(near_by, "GET %b", bytes, (size_t)256);
    size_t size = 10 * 1000 * 1000;
    char *big = malloc(size);
    for (size_t at = 0; at < size; at++) big[at] = (char)(at * 31 >> 3);
    run(near_by, "SET big %b", big, size);
    for (int times = 0; times < 2; times++) {
        redisReply *reply = redisCommand(near_by, "GET big");
        printf("10 MB: %d\n", reply && (size_t)reply->len == size && memcmp(reply->str, big, size) == 0);
        freeReplyObject(reply);
    }
    free(big);
    run(near_by, "HSET h a 1 b 2");
    run(near_by, "HGETALL h");
    run(near_by, "HGETALL h");
    run(near_by, "ZADD z 1.5 x 2 y");
    run(near_by, "ZRANGE z 0 -1 WITHSCORES");
    run(near_by, "SET s v");
    run(near_by, "MGET s none h");
    run(near_by, "GET h");
    run(near_by, "NOSUCH a");
    run(near_by, "INCR s");
    run(near_by, "HELLO 9");
    run(near_by, "OBJECT ENCODING s");
}

static void pipelines(void) {
    for (int number = 0; number < 10000; number++) {
        redisAppendCommand(near_by, "SET p:%d %d", number % 10, number);
        redisAppendCommand(near_by, "GET p:%d", number % 10);
    }
    int right = 0;
    for (int number = 0; number < 20000; number++) {
        redisReply *reply = NULL;
        redisGetReply(near_by, (void **)&reply);
        right += number % 2 ? reply->type == REDIS_REPLY_STRING && atoi(reply->str) == number / 2 : reply->type == REDIS_REPLY_STATUS;
        freeReplyObject(reply);
    }
    printf("pipeline: %d\n", right);
    run(near_by, "SET t 1");
    redisContext *writers[] = {behind, connect_to(port)};
    for (int at = 0; at < 2; at++) {
        run(near_by, "WATCH t");
        run(near_by, "GET t");
        run(writers[at], "SET t 10");
        run(near_by, "MULTI");
        run(near_by, "SET t 3");
        run(near_by, "EXEC");
    }
    redisFree(writers[1]);
    run(near_by, "MULTI");
    run(near_by, "INCR t");
    run(near_by, "GET t");
    run(near_by, "EXEC");
    run(near_by, "MULTI");
    run(near_by, "NOSUCH");
    run(near_by, "EXEC");
}

static void channels(void) {
    redisContext *listener = connect_to(port);
    run(listener, "SUBSCRIBE news more");
    next(listener, "the second");
    run(listener, "PSUBSCRIBE new*");
    run(near_by, "PUBLISH news one");
    next(listener, "message");
    next(listener, "message");
    run(listener, "GET s");
    run(listener, "PING hello");
    run(listener, "UNSUBSCRIBE news more");
    next(listener, "the second");
    run(listener, "PUNSUBSCRIBE");
    run(listener, "GET s");
    redisFree(listener);
}

static void blocking(void) {
    redisContext *waiter = connect_to(port);
    int done = 0;
    redisAppendCommand(waiter, "BLPOP q1 q2 15");
    while (!done) redisBufferWrite(waiter, &done);
    eventually(behind, "blocked_clients:1", "INFO clients");
    run(near_by, "RPUSH q2 job");
    next(waiter, "popped");
    run(waiter, "BLPOP q1 0.05");
    run(near_by, "RPUSH q1 a");
    run(waiter, "BLMOVE q1 q2 LEFT RIGHT 1");
    redisAppendCommand(waiter, "BLPOP ghost 15");
    for (done = 0; !done;) redisBufferWrite(waiter, &done);
    eventually(behind, "blocked_clients:1", "INFO clients");
    redisFree(waiter);
    eventually(behind, "blocked_clients:0", "INFO clients");
    run(near_by, "RPUSH ghost kept");
    run(near_by, "LRANGE ghost 0 -1");
}

static void streams(void) {
    run(near_by, "XGROUP CREATE x workers 0 MKSTREAM");
    run(near_by, "XGROUP CREATE x workers 0");
    for (int number = 1; number <= 5; number++) run(near_by, "XADD x %d-1 n %d", number, number);
    run(near_by, "XREADGROUP GROUP workers one COUNT 3 STREAMS x >");
    run(near_by, "XREADGROUP GROUP workers two BLOCK 50 STREAMS x >");
    run(near_by, "XREADGROUP GROUP workers two BLOCK 50 STREAMS x >");
    run(near_by, "XACK x workers 1-1 2-1");
    run(near_by, "XPENDING x workers");
    run(near_by, "XAUTOCLAIM x workers three 0 0-0 COUNT 2");
}

static void scripts(void) {
    run(near_by, "SET script 5");
    run(near_by, "GET script");
    run(near_by, "EVAL %s 1 script", "return redis.call('INCRBY', KEYS[1], 5)");
    run(near_by, "GET script");
    run(near_by, "EVALSHA %s 0", "0000000000000000000000000000000000000000");
    run(near_by, "EVAL %s 0", "return {1, 'two', false, {3, {4, {5}}}}");
}

static void scans(void) {
    for (int number = 0; number < 5000; number++) redisAppendCommand(near_by, "SET scan:%d x", number);
    for (int number = 0; number < 5000; number++) {
        void *reply = NULL;
        redisGetReply(near_by, &reply);
        freeReplyObject(reply);
    }
    static char seen[5000];
    char cursor[32] = "0";
    int found = 0;
    do {
        redisReply *reply = redisCommand(near_by, "SCAN %s MATCH scan:* COUNT 50", cursor);
        snprintf(cursor, sizeof cursor, "%s", reply->element[0]->str);
        for (size_t at = 0; at < reply->element[1]->elements; at++) {
            int number = atoi(reply->element[1]->element[at]->str + strlen("scan:"));
            found += !seen[number];
            seen[number] = 1;
        }
        freeReplyObject(reply);
    } while (strcmp(cursor, "0") != 0);
    printf("found: %d\n", found);
}

static void restarts(void) {
    printf("@restart\n");
    fflush(stdout);
    char line[8];
    if (fgets(line, sizeof line, stdin) == NULL) exit(1);
    redisReply *lost = redisCommand(near_by, "GET s");
    printf("lost: %d\n", lost == NULL && near_by->err != 0);
    printf("reconnected: %d\n", redisReconnect(near_by));
    run(near_by, "SET again 1");
    run(near_by, "GET again");
    run(near_by, "GET again");
}

int main(int count, char **words) {
    if (count != 3) return 64;
    port = atoi(words[1]);
    behind_port = atoi(words[2]);
    near_by = connect_to(port);
    behind = connect_to(behind_port);
    printf("version %d.%d.%d\n", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    options();
    values();
    pipelines();
    channels();
    blocking();
    streams();
    scripts();
    scans();
    restarts();
    printf("done\n");
    return 0;
}
