/* The command line. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: loadgen --port P [options]\n"
    "  --host ADDRESS     IPv4 address of the server (127.0.0.1)\n"
    "  --port P           its port\n"
    "  --connections N    connections to open (1)\n"
    "  --in-flight K      messages kept in flight on each (1); round trips are timed when it is 1\n"
    "  --size B           payload bytes of a message (64)\n"
    "  --seconds S        length of the measured window (3)\n"
    "  --warmup W         seconds before it (0.5)\n"
    "  --text, --binary   what the messages are (text)\n"
    "  --mode MODE        echo: K messages in flight on each connection (the default)\n"
    "                     rotate: K in all, each answer followed by one on the next connection\n"
    "                     broadcast: K messages under way, each from the first to all\n"
    "                     open: open N, and nothing else\n"
    "                     connections: open N, echo one message on each, print, and hold them\n"
    "                     until standard input ends\n"
    "  --deflate          permessage-deflate; messages are JSON, and text\n"
    "  --tls CERTIFICATE  TLS 1.3 with a server that shows this certificate (PEM)\n"
    "  --cpu C            run on this CPU only\n"
    "  --server-pid PID   also report that process's CPU time over the measured window\n";

static const char *address(const char *text)
{
    struct in_addr ignored;
    if (inet_pton(AF_INET, text, &ignored) != 1)
        usage_error("--host takes an IPv4 address, not \"%s\"", text);
    return text;
}

static enum mode mode_named(const char *text)
{
    static const char *const names[] = {[MODE_ECHO] = "echo",
                                        [MODE_ROTATE] = "rotate",
                                        [MODE_BROADCAST] = "broadcast",
                                        [MODE_OPEN] = "open",
                                        [MODE_CONNECTIONS] = "connections"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0)
            return (enum mode)i;
    usage_error("--mode takes echo, rotate, broadcast, open or connections, not \"%s\"", text);
}

enum flag {
    HOST = 256,
    PORT,
    CONNECTIONS,
    IN_FLIGHT,
    SIZE,
    SECONDS,
    WARMUP,
    TEXT,
    BINARY,
    MODE,
    DEFLATE,
    TLS,
    CPU,
    SERVER,
    HELP
};

static void set_option(struct options *o, int flag, const char *text)
{
    switch (flag) {
    case HOST:
        o->host = address(text);
        break;
    case PORT:
        o->port = (uint16_t)whole_number("port", text, 1, 65535);
        break;
    case CONNECTIONS:
        o->connections = (uint32_t)whole_number("connections", text, 1, MAX_CONNECTIONS);
        break;
    case IN_FLIGHT:
        o->in_flight = (uint32_t)whole_number("in-flight", text, 1, MAX_IN_FLIGHT);
        break;
    case SIZE:
        o->size = whole_number("size", text, 0, MAX_SIZE);
        break;
    case SECONDS:
        o->seconds = duration("seconds", text, 0.001);
        break;
    case WARMUP:
        o->warmup = duration("warmup", text, 0);
        break;
    case TEXT:
        o->opcode = OP_TEXT;
        break;
    case BINARY:
        o->opcode = OP_BINARY;
        break;
    case MODE:
        o->mode = mode_named(text);
        break;
    case DEFLATE:
        o->deflate = true;
        break;
    case TLS:
        o->certificate = text;
        break;
    case CPU:
        o->cpu = (int)whole_number("cpu", text, 0, CPU_SETSIZE - 1);
        break;
    case SERVER:
        o->server_pid = (pid_t)whole_number("server-pid", text, 1, INT32_MAX);
        break;
    case HELP:
        fputs(usage, stdout);
        exit(0);
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static void check_together(const struct options *o)
{
    if (!o->deflate)
        return;
    if (o->opcode != OP_TEXT)
        usage_error("--deflate is for text");
    if (o->size < MIN_JSON || o->size > MAX_JSON)
        usage_error("--deflate takes a --size from %d to %d", MIN_JSON, MAX_JSON);
    if (o->mode == MODE_BROADCAST)
        usage_error("--deflate is not for --mode=broadcast");
}

struct options parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, HOST},
        {"port", required_argument, NULL, PORT},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"in-flight", required_argument, NULL, IN_FLIGHT},
        {"size", required_argument, NULL, SIZE},
        {"seconds", required_argument, NULL, SECONDS},
        {"warmup", required_argument, NULL, WARMUP},
        {"text", no_argument, NULL, TEXT},
        {"binary", no_argument, NULL, BINARY},
        {"mode", required_argument, NULL, MODE},
        {"deflate", no_argument, NULL, DEFLATE},
        {"tls", required_argument, NULL, TLS},
        {"cpu", required_argument, NULL, CPU},
        {"server-pid", required_argument, NULL, SERVER},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.host = "127.0.0.1",
                        .connections = 1,
                        .in_flight = 1,
                        .size = 64,
                        .seconds = 3,
                        .warmup = 0.5,
                        .opcode = OP_TEXT,
                        .cpu = -1};
    int flag;

    while ((flag = getopt_long(argc, argv, "", known, NULL)) != -1)
        set_option(&o, flag, optarg);
    if (optind < argc)
        usage_error("what is \"%s\"? (--help)", argv[optind]);
    if (o.port == 0)
        usage_error("--port is needed (--help)");
    check_together(&o);
    return o;
}
